"""The command ``musetalk-edge``."""

import argparse
from collections.abc import Sequence

from musetalk_runtime.cli import bench, certify, doctor, fleet, prepare, provision, serve, stream, token, update
from musetalk_runtime.cli.command import run_command
from musetalk_runtime.core.version import __version__

DESCRIPTION = """\
Speech in, a talking face out, as a stream that starts at once.

  musetalk-edge prepare person.mp4 -b BUNDLE -o AVATAR
  musetalk-edge stream -b BUNDLE -a AVATAR --audio speech.wav -o talk.mp4
  musetalk-edge serve -b BUNDLE -a NAME=AVATAR

A bundle holds the engines: build-engines makes it, and what runs them certifies it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 for bad input or usage and 3 for a machine that cannot do it."""
    return run_command("musetalk-edge", _run, arguments)


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="musetalk-edge", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"musetalk-edge {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (prepare, stream, serve, token, certify, update, provision, fleet, bench, doctor):
        command.add_parser(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument("--verbose", action="store_true", help="add the traceback to an error")
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
