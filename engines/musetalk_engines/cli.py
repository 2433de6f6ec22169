"""``build-engines``: a model set to the bundle of this machine."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musetalk_engines.trt.options import BuildOptions
from musetalk_runtime.cli.command import run_command
from musetalk_runtime.core.accuracy import table
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.version import __version__

if TYPE_CHECKING:
    from musetalk_engines.bundle import BuildReport

PROGRAM = "build-engines"

DESCRIPTION = """\
Build the engines of a model set, and write the bundle that musetalk-edge runs.

For this machine, by TensorRT or ONNX Runtime: each engine is certified against the model set's golden tensors, and
measured. The table on stdout says what the engines differ by. An engine that is off is rebuilt in safer ways, and never
written. A build by TensorRT that was interrupted goes on where it stopped when the same command is run again.

For other machines, by TensorRT for RTX, in seconds and without a GPU: --for names the GPUs. Such a bundle is certified
and measured where it runs, at its first start: see 'musetalk-edge certify --help'."""

EXAMPLES = """\
examples:
  build-engines student.modelset -o student.bundle
  build-engines student.modelset -o student.bundle --batch-sizes 1,2,8 --optimization-level 5 --dry-run
  build-engines student.modelset -o student.bundle --backend tensorrt-rtx --for gb10
  build-engines student.modelset -o student.bundle --backend tensorrt-rtx --for rtx40,rtx50,sm_121
  build-engines student.modelset -o student.bundle --backend onnxruntime --face-model face_detection_yunet.onnx
  build-engines student.modelset -o int8.bundle --backend onnxruntime --precision int8 --calibration anna speech.wav

Without --backend it is TensorRT where that is installed and knows this machine's GPU, else TensorRT for RTX, for this
machine's GPU, where that is, else ONNX Runtime, which runs on the GPU too where its CUDA provider works
(onnxruntime-gpu), else on the CPU.
Exit status: 2 for bad input or usage, 3 if an engine is not accurate or this machine cannot do it, 1 for a bug."""

DEFAULT_BATCH_SIZES = {"onnxruntime": (1, 2, 4), "tensorrt": (1, 4), "tensorrt-rtx": (1, 4, 8)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (``sys.argv`` if None) and return its exit status."""
    return run_command(PROGRAM, _run, arguments, extra="engines")


def _run(arguments: Sequence[str]) -> int:
    args = _parser().parse_args(arguments)
    if args.backend == "auto":
        args.backend = _choose(args)
    if args.backend != "onnxruntime" and (args.precision == "int8" or args.calibration):
        raise InvalidArgument("--precision int8 is for --backend onnxruntime, on a CPU")
    sizes = args.batch_sizes or DEFAULT_BATCH_SIZES[args.backend]
    return {"onnxruntime": _onnxruntime, "tensorrt": _tensorrt, "tensorrt-rtx": _rtx}[args.backend](args, sizes)


def _choose(args: argparse.Namespace) -> str:
    """The backend for this machine; `args` get what it builds for."""
    if args.targets:
        return "tensorrt-rtx"
    if args.dry_run:
        return "tensorrt"
    from musetalk_engines.backend_choice import choose_backend

    backend, reason, args.targets = choose_backend()
    _progress(f"--backend {backend}: {reason}")
    return backend


# The backends take a while to import: --help need not wait, and none needs what another one does.


def _onnxruntime(args: argparse.Namespace, sizes: tuple[int, ...]) -> int:
    int8 = args.precision == "int8"
    _refuse_options(args, {"precision": args.precision} if int8 else {})
    if int8 != bool(args.calibration):
        raise InvalidArgument("--precision int8 and --calibration AVATAR SPEECH go together")
    from musetalk_engines.build import build_bundle
    from musetalk_engines.calibration import Calibration

    calibration = Calibration(*args.calibration) if int8 else None
    _print_report(build_bundle(args.modelset, args.output, sizes, args.face_model, _progress, calibration))
    return 0


def _tensorrt(args: argparse.Namespace, sizes: tuple[int, ...]) -> int:
    if args.targets:
        raise InvalidArgument("--for is for --backend tensorrt-rtx: TensorRT builds for the GPU that is here")
    options = _options(args, sizes)
    if args.dry_run:
        from musetalk_engines.trt.dry_run import dry_run

        print(dry_run(args.modelset, args.output, options, args.face_model))
        return 0
    from musetalk_engines.trt.build import build_tensorrt_bundle

    _print_report(build_tensorrt_bundle(args.modelset, args.output, options, args.face_model, _progress))
    return 0


def _rtx(args: argparse.Namespace, sizes: tuple[int, ...]) -> int:
    _refuse_options(args, {"precision": args.precision, "targets": args.targets})
    from musetalk_engines.trt.build_rtx import build_rtx_bundle

    engines = build_rtx_bundle(args.modelset, args.output, _options(args, sizes), args.face_model, _progress)
    for graph, engine in engines.items():
        size, seconds = engine["bytes"] / 1e6, engine["build_seconds"]
        print(f"{graph:<15}{len(engine['profiles'])} profiles, {size:.1f} MB, built in {seconds:.1f} s")
    print(f"for {', '.join(args.targets)}: to be certified where it runs, by 'musetalk-edge certify {args.output}'")
    return 0


def _print_report(report: "BuildReport") -> None:
    print(table(report.differences))
    for size, ms in report.batch_ms.items():
        print(f"batch {size}: {ms:.1f} ms, {ms / size:.1f} ms a frame, {1000 * size / ms:.1f} fps")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("modelset", type=Path, metavar="MODELSET", help="folder that export-student wrote")
    add("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add(
        "--backend",
        default="auto",
        choices=("auto", *DEFAULT_BATCH_SIZES),
        help="what runs the engines (default: %(default)s, see below)",
    )
    add(
        "--for",
        dest="targets",
        type=_targets,
        default=(),
        metavar="GPU,GPU,...",
        help="with TensorRT for RTX: gb10, rtx50, rtx40, ampere, turing, all, or compute capabilities such as sm_121",
    )
    add(
        "--batch-sizes",
        type=_sizes,
        metavar="N,N,...",
        help="frames at once (default: 1,4; with ONNX Runtime 1,2,4; with TensorRT for RTX 1,4,8)",
    )
    add("--precision", choices=("fp16", "fp32", "int8"), default="fp16",
        help="of a GPU's arithmetic (default: %(default)s); int8: a CPU's convolutions, by --calibration")  # fmt: skip
    add("--calibration", type=Path, nargs=2, metavar=("AVATAR", "SPEECH"),
        help="for int8: an avatar of this model's, and an audio file for it to say")  # fmt: skip
    add("--face-model", type=Path, metavar="FILE", help="YuNet face detector (ONNX) to pack, for musetalk-edge prepare")
    add("--version", action="version", version=f"{PROGRAM} {__version__}")
    add("--verbose", action="store_true", help="add the traceback to an error, and pass on what TensorRT says")
    gpu = parser.add_argument_group("with TensorRT").add_argument
    gpu("--optimization-level", type=int, choices=range(6), default=BuildOptions.level, metavar="0-5",
        help="how long TensorRT looks for faster kernels (default: %(default)s)")  # fmt: skip
    gpu("--max-memory", type=_mebibytes, metavar="MIB", help="workspace of a kernel (default: the GPU's memory)")
    gpu("--version-compatible", action="store_true", help="plans for later TensorRTs too: see docs/bundles.md")
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
        targets=args.targets,
    )


def _refuse_options(args: argparse.Namespace, taken: dict[str, Any]) -> None:
    """Raise InvalidArgument if an option was given that the backend does not take; those `taken` it does."""
    default = BuildOptions(verbose=args.verbose)
    if args.dry_run or _options(args, default.batch_sizes) != replace(default, **taken):
        raise InvalidArgument(f"--backend {args.backend} has no such options: --help lists those that are TensorRT's")


def _targets(text: str) -> tuple[str, ...]:
    from musetalk_engines.trt.targets import parse_targets

    try:
        return parse_targets(text)
    except InvalidArgument as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
