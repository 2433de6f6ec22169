"""``build-engines``: a model set to the bundle of this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from musetalk_runtime import __version__
from musetalk_runtime.accuracy import table
from musetalk_runtime.cli.command import run_command

PROGRAM = "build-engines"

DESCRIPTION = """\
Build the engines of a model set for this machine, certify each against the model set's golden tensors, measure them,
and write the bundle that musetalk-edge runs. The table on stdout says what the engines differ by. An engine that is
off is not written."""

EXAMPLES = """\
examples:
  build-engines student.modelset -o student.bundle --backend onnxruntime
  build-engines student.modelset -o student.bundle --backend onnxruntime --face-model face_detection_yunet.onnx

Exit status: 2 for bad input or usage, 3 if an engine is not accurate or this machine cannot do it, 1 for a bug."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (``sys.argv`` if None) and return its exit status."""
    return run_command(PROGRAM, _run, arguments, extra="engines")


def _run(arguments: Sequence[str]) -> int:
    args = _parser().parse_args(arguments)
    from musetalk_engines.build import build_bundle  # takes a while to import: --help need not wait

    report = build_bundle(args.modelset, args.output, args.batch_sizes, args.face_model, _progress)
    print(table(report.differences))
    for size, ms in report.batch_ms.items():
        print(f"batch {size}: {ms:.1f} ms, {ms / size:.1f} ms a frame, {1000 * size / ms:.1f} fps")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modelset", type=Path, metavar="MODELSET", help="folder that export-student wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--backend", required=True, choices=("onnxruntime",), help="what runs the engines")
    parser.add_argument(
        "--batch-sizes", type=_sizes, default=(1, 2, 4), metavar="N,N,...", help="frames at once (default: 1,2,4)"
    )
    parser.add_argument(
        "--face-model", type=Path, metavar="FILE", help="YuNet face detector (ONNX) to pack, for musetalk-edge prepare"
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--verbose", action="store_true", help="add the traceback to an error")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(size) for size in text.split(",")}))
    except ValueError:
        sizes = ()
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers from 1 to 64, such as 1,2,4")
    return sizes


def _progress(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)
