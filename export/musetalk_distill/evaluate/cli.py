"""The command ``distill-student evaluate``, and the table that it prints."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.progress import StatusLine
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.output_file import write_output

HELP = """\
Compare models on the clips of the split "val": PSNR and SSIM of the mouth (the lower half of the face) against the true
pictures and the teacher's, how the opening of the lips follows what is known of it, and what a frame costs. The table
goes to stdout, its figures and more to the JSON file. A model with a small decoder is compared with its checkpoint's
own decoder too. Flicker is how differently two models' mouths change from one frame to the next: dtSSD (Erofeev et
al., 2015), in levels of 255. The first row paints the true latents: the VAE's own bound.
"""

COLUMNS = ("unet M", "dec. M", "unet GF", "dec. GF", "ms", "PSNR", "SSIM", "PSNR/t", "SSIM/t", "flick/t",
           "PSNR/v", "SSIM/v", "flick/v", "lips r", "best r", "at lag")  # fmt: skip
FOOTNOTE = (
    "M: million parameters. GF: GFLOP a frame. ms: a frame, one at a time, FP32; on a CPU the CPU time of one thread.\n"
    "flick: flicker, levels of 255. "
    "/t: against the teacher. /v: against the same latents through the VAE's decoder.\n"
    "lips r: correlation of the lips' opening with the known one, without lag. best r: the highest at a lag of up to "
    "12 frames, at which the picture is late (negative: early)."
)

UNSURE = 0.1  # of the milliseconds: a larger spread is shown


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

    with StatusLine() as line:
        report = evaluate(
            args.checkpoints,
            args.shards,
            args.teacher,
            args.decoder,
            args.clips,
            lambda text: line.update(f"distill-student: {text}"),
        )
    write_output(args.output, json.dumps(report, indent=1) + "\n")
    print(table(report))
    return 0


def table(report: dict[str, Any]) -> str:
    """The report of `evaluate` as text: a line for each model, in the order they were asked for."""
    rows = [["model", *COLUMNS], *([row["name"], *_cells(row)] for row in report["models"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([*lines, FOOTNOTE, f"{report['clips']} clips; {report['device']}"])


def _cells(row: dict[str, Any]) -> list[str]:
    truth, lips = row["truth"] or {}, row["lips"] or {}
    return [
        f"{row['unet_parameters'] / 1e6:.2f}",
        f"{row['decoder_parameters'] / 1e6:.2f}",
        f"{row['unet_gflop']:.2f}",
        f"{row['decoder_gflop']:.2f}",
        _milliseconds(row["ms"], row["ms_spread"]),
        _cell(truth.get("psnr"), 2),
        _cell(truth.get("ssim"), 4),
        *(
            _cell((row[other] or {}).get(name), digits)
            for other in ("teacher", "vae")
            for name, digits in (("psnr", 2), ("ssim", 4), ("flicker", 2))
        ),
        _cell(lips.get("correlation"), 3),
        _cell(lips.get("best_correlation"), 3),
        _cell(lips.get("best_lag"), 0),
    ]


def _milliseconds(middle: float, spread: list[float]) -> str:
    """The median, with what it may be off by where the runs differ by more than a tenth."""
    off = max(spread[1] - middle, middle - spread[0])
    return f"{middle:.1f}" if off <= UNSURE * middle else f"{middle:.1f}+-{off:.1f}"


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
