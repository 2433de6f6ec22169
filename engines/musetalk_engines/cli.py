"""``build-engines``: a model set to the bundle of this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from musetalk_engines.trt.options import BuildOptions
from musetalk_runtime.cli.command import run_command
from musetalk_runtime.core.accuracy import table
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.version import __version__

PROGRAM = "build-engines"

DESCRIPTION = """\
Build the engines of a model set for this machine, certify each against the model set's golden tensors, measure them,
and write the bundle that musetalk-edge runs. The table on stdout says what the engines differ by. An engine that is
off is rebuilt in safer ways, and never written. A build for the GPU that was interrupted goes on where it stopped
when the same command is run again."""

EXAMPLES = """\
examples:
  build-engines student.modelset -o student.bundle
  build-engines student.modelset -o student.bundle --batch-sizes 1,2,8 --optimization-level 5 --dry-run
  build-engines student.modelset -o student.bundle --backend onnxruntime --face-model face_detection_yunet.onnx

ONNX Runtime runs on the GPU too where its CUDA provider works (onnxruntime-gpu), else on the CPU.
Exit status: 2 for bad input or usage, 3 if an engine is not accurate or this machine cannot do it, 1 for a bug."""

DEFAULT_BATCH_SIZES = {"onnxruntime": (1, 2, 4), "tensorrt": (1, 4)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (``sys.argv`` if None) and return its exit status."""
    return run_command(PROGRAM, _run, arguments, extra="engines")


def _run(arguments: Sequence[str]) -> int:
    args = _parser().parse_args(arguments)
    sizes = args.batch_sizes or DEFAULT_BATCH_SIZES[args.backend]
    # The backends take a while to import: --help need not wait, and neither needs what the other one does.
    if args.backend == "onnxruntime":
        _refuse_gpu_options(args)
        from musetalk_engines.build import build_bundle

        report = build_bundle(args.modelset, args.output, sizes, args.face_model, _progress)
    else:
        options = _options(args, sizes)
        if args.dry_run:
            from musetalk_engines.trt.dry_run import dry_run

            print(dry_run(args.modelset, args.output, options, args.face_model))
            return 0
        from musetalk_engines.trt.build import build_tensorrt_bundle

        report = build_tensorrt_bundle(args.modelset, args.output, options, args.face_model, _progress)
    print(table(report.differences))
    for size, ms in report.batch_ms.items():
        print(f"batch {size}: {ms:.1f} ms, {ms / size:.1f} ms a frame, {1000 * size / ms:.1f} fps")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("modelset", type=Path, metavar="MODELSET", help="folder that export-student wrote")
    add("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add(
        "--backend",
        default="tensorrt",
        choices=DEFAULT_BATCH_SIZES,
        help="what runs the engines (default: %(default)s)",
    )
    add("--batch-sizes", type=_sizes, metavar="N,N,...", help="frames at once (default: 1,4; with ONNX Runtime 1,2,4)")
    add("--face-model", type=Path, metavar="FILE", help="YuNet face detector (ONNX) to pack, for musetalk-edge prepare")
    add("--version", action="version", version=f"{PROGRAM} {__version__}")
    add("--verbose", action="store_true", help="add the traceback to an error, and pass on what TensorRT says")
    gpu = parser.add_argument_group("with TensorRT").add_argument
    gpu("--precision", choices=("fp16", "fp32"), default="fp16", help="of the arithmetic (default: %(default)s)")
    gpu("--optimization-level", type=int, choices=range(6), default=BuildOptions.level, metavar="0-5",
        help="how long TensorRT looks for faster kernels (default: %(default)s)")  # fmt: skip
    gpu("--max-memory", type=_mebibytes, metavar="MIB", help="workspace of a kernel (default: the GPU's memory)")
    gpu("--version-compatible", action="store_true", help="plans for later TensorRTs of the same major version too")
    gpu("--timing-cache", type=Path, metavar="FILE",
        help="timing.cache of another bundle to start from (default: that of the bundle to replace)")  # fmt: skip
    gpu("--dry-run", action="store_true", help="print what would be built, and build nothing")
    return parser


def _options(args: argparse.Namespace, sizes: tuple[int, ...]) -> BuildOptions:
    return BuildOptions(
        batch_sizes=sizes,
        precision=args.precision,
        level=args.optimization_level,
        max_memory=args.max_memory,
        version_compatible=args.version_compatible,
        timing_cache=args.timing_cache,
        verbose=args.verbose,
    )


def _refuse_gpu_options(args: argparse.Namespace) -> None:
    default = BuildOptions(verbose=args.verbose)
    if args.dry_run or _options(args, default.batch_sizes) != default:
        raise InvalidArgument("--backend onnxruntime has no such options: --help lists those that are TensorRT's")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(size) for size in text.split(",")}))
    except ValueError:
        sizes = ()
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers from 1 to 64, such as 1,2,4")
    return sizes


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r}: expected mebibytes, such as 4096")
    return int(text)


def _progress(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)
