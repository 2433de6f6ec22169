"""``musetalk-edge bench``: how fast this machine is."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import add_bundle_argument, add_detail_argument, open_bundle
from musetalk_runtime.core.errors import InvalidArgument


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure the chain on this machine",
        description="Stream synthetic speech to nowhere and print figures as JSON: the processor, frames a second, "
        "time to the first fragment and its parts, milliseconds a frame by stage (median and 99th percentile), memory "
        "over the run. Then five short warm sessions, to their first fragment, and up to 10 seconds at the pace of "
        "real time, for the share of a CPU core that a stream takes, with libx264 and without.",
    )
    add_bundle_argument(parser)
    parser.add_argument("-a", "--avatar", type=Path, help="an avatar; default: a drawn one, 512x512")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of the drawn avatar (default: 512x512)")
    add_detail_argument(parser)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the speech, 1 to 36000 (default: 20)")
    parser.add_argument("--fps", default="25", help="frame rate of the stream (default: 25)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the figures on stdout."""
    from musetalk_runtime.avatar.pack import Avatar
    from musetalk_runtime.diagnostics.bench import bench
    from musetalk_runtime.diagnostics.synthetic import SIDE

    if not 1 <= args.seconds <= 36_000:
        raise InvalidArgument(f"--seconds {args.seconds:g} is out of range [1, 36000]")
    with open_bundle(args.bundle) as bundle:
        avatar = Avatar.open(args.avatar, args.detail) if args.avatar else None
        size = args.size or (SIDE, SIDE)
        print(json.dumps(bench(bundle, avatar, args.seconds, args.fps, size, args.detail), indent=1))
    return 0


def _size(text: str) -> tuple[int, int]:
    from musetalk_runtime.diagnostics.synthetic import SIDE

    try:
        width, height = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT, such as 1280x720") from None
    if not all(SIDE <= side <= 4096 and side % 2 == 0 for side in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected even sides from {SIDE} to 4096")
    return width, height
