"""The command ``distill-student``."""

import argparse
from collections.abc import Sequence
from importlib import import_module

from musetalk_distill.heap import keep_freed_memory
from musetalk_export.progress import progress_shown
from musetalk_runtime.cli.command import run_command
from musetalk_runtime.core.version import __version__

PROGRAM = "distill-student"

DESCRIPTION = """\
Teach a small student what MuseTalk's UNet does.

  distill-student prepare VIDEOS -o SHARDS --checkpoint CKPT --face-model YUNET
  distill-student train --help

What it learns from comes from videos of people, or from drawn ones. 'export-student' takes what comes out."""

# The module of each command. They are imported when the command line is parsed and not before: musetalk_drawn imports
# this package, so importing it here at the top would close a circle.
COMMANDS = {
    "draw": "musetalk_drawn.cli",
    "prepare": "musetalk_distill.prepare.cli",
    "train": "musetalk_distill.train.cli",
    "evaluate": "musetalk_distill.evaluate.cli",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 for bad input or usage and 3 for a machine that cannot do it."""
    return run_command(PROGRAM, _run, arguments, extra="distill")


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        PROGRAM, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS.values():
        import_module(module).add_parser(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument("--verbose", action="store_true", help="add the traceback to an error")
    args = parser.parse_args(arguments)
    keep_freed_memory()
    with progress_shown(PROGRAM, "musetalk_distill", "musetalk_export"):
        status: int = args.run(args)
    return status
