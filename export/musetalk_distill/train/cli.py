"""The command ``distill-student train``."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_distill.train.tasks.options import LEARNING_RATES, LOSSES, PRECISIONS, WHAT, TrainOptions
from musetalk_runtime.core.errors import InvalidArgument

HELP = """\
Train on the shards of `distill-student prepare`, and leave a model for `export-student`:

  student   learns from CKPT's U-Net, from whose layers it begins: RUN/checkpoint/
  teacher   a U-Net of the shape of CKPT's learns from the shards alone, from random weights: RUN/checkpoint/
  decoder   a small decoder learns from CKPT's VAE decoder: RUN/decoder/; put it into a checkpoint, as decoder/

RUN also has log.jsonl, TensorBoard's events, sheets of pictures, and the checkpoints that --resume goes on from.
SIGINT and SIGTERM write one before the command ends. --resume with more --steps extends a run, finished or not: its
learning rate goes on as in a run of so many, and so rises once. Several GPUs: `accelerate launch` or `torchrun` before
it.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train", help="train a student, a teacher or a small decoder", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    default = TrainOptions()
    rates = ", ".join(f"{what} {rate:g}" for what, rate in LEARNING_RATES.items())
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="from distill-student prepare")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="CKPT", help="as export-student takes it")
    parser.add_argument("--what", choices=WHAT, default=default.what, help="(default: %(default)s)")
    parser.add_argument(
        "--student-config", metavar="FILE|PRESET", help="U-Net settings; default: bk-sdm-tiny's rule on the teacher's"
    )
    parser.add_argument("--width", type=int, default=default.width, help="of the decoder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=default.steps, help="in all (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=default.batch, help="frames a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, help=f"the highest learning rate (default: {rates})")
    parser.add_argument(
        "--loss", type=_weight, action="append", default=[], metavar="NAME=WEIGHT", help=f"one of {_losses()}"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="default: bf16 on a GPU that has it, else fp32")
    parser.add_argument("--compile", action="store_true", help="use torch.compile: minutes at first, then faster")
    parser.add_argument("--seed", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument("--log-every", type=int, default=default.log_every, help="steps (default: %(default)s)")
    parser.add_argument(
        "--save-every", type=int, default=default.save_every, help="steps to a checkpoint and a sheet (%(default)s)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest whole checkpoint of RUN, if any; --steps may be more",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, and print a summary as JSON."""
    names = ("what", "student_config", "width", "steps", "batch", "lr", "precision", "compile", "seed", "log_every")
    chosen = {name: getattr(args, name) for name in (*names, "save_every")}
    options = TrainOptions(**chosen, losses=dict(args.loss))
    _check(args)
    from musetalk_distill.train.train import train  # torch takes seconds to import

    summary = train(args.shards, args.output, args.checkpoint, options, args.resume)
    if summary:  # of several processes one has it
        print(json.dumps(summary, indent=1))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.student_config is not None and args.what != "student":
        raise InvalidArgument(f"--student-config is for --what student, not {args.what}")


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=WEIGHT, such as pixels=0.5") from None


def _losses() -> str:
    kinds = (
        f"{what}: {' '.join(f'{name}={weight:g}' for name, weight in own.items())}" for what, own in LOSSES.items()
    )
    return "; ".join(kinds)
