"""``distill-student evaluate``."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_distill.train.messages import progress_shown
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.output_file import write_output

HELP = """\
Compare models on the clips of the split "val": PSNR and SSIM of the mouth (the lower half of the face) against the true
pictures and the teacher's, how the opening of the lips follows what is known of it, and what a frame costs. The table
goes to stdout, its figures and more to the JSON file. The first row paints the true latents: the VAE's own bound.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate", help="compare models on clips they have not seen", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CKPT", help="as export-student takes it")
    parser.add_argument("--shards", type=Path, required=True, help="from distill-student prepare")
    parser.add_argument("--teacher", type=Path, metavar="CKPT", help="compare with this one too")
    parser.add_argument("--decoder", type=Path, metavar="FOLDER", help="try each CKPT with this small decoder too")
    parser.add_argument("--clips", type=int, default=0, metavar="N", help="look at the first N only (default: all)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json", help="the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report and print the table."""
    if args.clips < 0:
        raise InvalidArgument(f"--clips {args.clips}, expected at least 0")
    folder = Destination(args.output).path.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder for the report")
    from musetalk_distill.evaluate.evaluate import evaluate  # torch takes seconds to import
    from musetalk_distill.evaluate.table import table

    with progress_shown():
        report = evaluate(args.checkpoints, args.shards, args.teacher, args.decoder, args.clips)
    write_output(args.output, json.dumps(report, indent=1) + "\n")
    print(table(report))
    return 0
