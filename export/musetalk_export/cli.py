"""The command ``export-student``, with ``export-student init`` for checkpoints of random weights."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from musetalk_export.progress import progress_shown
from musetalk_runtime.cli.command import run_command

PROGRAM = "export-student"

EXPORT_HELP = """\
Write the model set of a checkpoint: unet.onnx, vae_decoder.onnx, vae_encoder.onnx and audio_encoder.onnx with their
weights, golden tensors, and a manifest. Every graph is run in ONNX Runtime and compared with PyTorch; the table on
stdout says what it differs by. If one is off, the command fails and leaves nothing behind.

CHECKPOINT is a folder, as MuseTalk ships it or as diffusers and transformers save it:

  MuseTalk    student/ or musetalkV15/ or musetalk/ (weights and the .json beside them), sd-vae/, whisper/
  diffusers   unet/, vae/, whisper/, each with config.json and *.safetensors

In both, decoder/ may hold a small decoder to use in place of the VAE's: config.json and weights of diffusers'
AutoencoderTiny. It takes the latents that the UNet predicts, which are times the VAE's scaling factor, and divides
them by its own scaling_factor (1 unless its config says otherwise).
"""
EXPORT_EXAMPLES = """\
examples:
  export-student models -o teacher.modelset               MuseTalk itself
  export-student models --unet student/unet.pth -o student.modelset --fp16
  export-student models --decoder tiny-decoder -o student.modelset
  export-student init tiny checkpoint                     random weights, to try things out
  export-student checkpoint -o tiny.modelset

`export-student init --help` tells more about checkpoints of random weights. Next: `build-engines MODELSET`.
Exit status: 2 for bad input or usage, 3 if a graph is not accurate or this machine cannot do it, 1 for a bug.
"""
INIT_HELP = """\
Write a checkpoint with random weights to the new folder DIR, for tests and benchmarks. The same preset and seed give
the same weights.

  tiny      the student's shape with few channels, about 1 M parameters in all: quick on a CPU
  student   bk-sdm-tiny's shape, 318 M parameters, with Stable Diffusion's VAE and whisper-tiny's encoder
  student-taesd
            the same with a small decoder of TAESD's shape, 1.2 M parameters, in place of the VAE's
  student-half-taesd
            the same with a small decoder of half TAESD's width
  teacher   Stable Diffusion 1.x's shape, 850 M parameters, as in MuseTalk; with the same VAE and encoder
  demo      for real time on two CPU cores, with a small decoder: to be trained from scratch
  demo-teacher
            wider and deeper, without a small decoder, with the same VAE and encoder
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (``sys.argv`` if None) and return its exit status."""
    return run_command(PROGRAM, _run, arguments, extra="export")


def _run(arguments: Sequence[str]) -> int:
    command, parser = (_init, _init_parser()) if arguments[:1] == ["init"] else (_export, _export_parser())
    options = parser.parse_args(arguments[1:] if command is _init else arguments)
    with progress_shown(PROGRAM, "musetalk_export"):
        command(options)
    return 0


def _export(options: argparse.Namespace) -> None:
    from musetalk_export.export import export_model_set  # torch takes seconds to import: --help need not wait

    report = export_model_set(
        options.checkpoint,
        options.output,
        unet_file=options.unet,
        decoder_folder=options.decoder,
        half=options.fp16,
    )
    print(report)


def _init(options: argparse.Namespace) -> None:
    from musetalk_export.checkpoint.preset import init_checkpoint

    init_checkpoint(options.preset, options.dir, tree=options.tree, seed=options.seed)


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description=EXPORT_HELP,
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint, see above")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODELSET", help="folder to write")
    parser.add_argument(
        "--unet", type=Path, metavar="FILE.pth", help="take the UNet from here; its config is the .json file beside"
    )
    parser.add_argument("--decoder", type=Path, metavar="FOLDER", help="take a small decoder from here, see above")
    parser.add_argument("--fp16", action="store_true", help="FP16 weights and activations, FP32 where sums need it")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def _init_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        f"{PROGRAM} init", description=INIT_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", metavar="PRESET", help="one of those above")
    parser.add_argument("dir", type=Path, metavar="DIR", help="new folder to write")
    parser.add_argument(
        "--tree", choices=("musetalk", "diffusers"), default="musetalk", help="layout of DIR (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the weights (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser
