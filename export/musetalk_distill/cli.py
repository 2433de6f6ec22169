"""The command ``distill-student``."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from musetalk_runtime import __version__
from musetalk_runtime.cli.command import run_command

PROGRAM = "distill-student"

DESCRIPTION = """\
Teach a small student what MuseTalk's UNet does.

  distill-student prepare VIDEOS -o SHARDS --checkpoint CKPT --face-model YUNET
  distill-student train --help

What it learns from comes from videos of people, or from drawn ones. 'export-student' takes what comes out."""

COMMANDS = ("draw", "prepare", "train", "evaluate")
MODULES = {"draw": "musetalk_drawn.cli"}  # where a command's module is not named as it is


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 for bad input or usage and 3 for a machine that cannot do it."""
    return run_command(PROGRAM, _run, arguments, extra="distill")


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        import_module(MODULES.get(command, f"musetalk_distill.{command}.cli")).add_parser(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument("--verbose", action="store_true", help="add the traceback to an error")
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status
