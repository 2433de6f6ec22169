"""The command ``distill-student draw``, which musetalk_distill.cli lists among its own."""

import argparse
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.progress import StatusLine

EXAMPLES = """\
examples:
  distill-student draw -o drawn --clips 200 --seed 0
  distill-student draw -o drawn --clips 20 --seed 0 --held-out

The second adds people and sentences that the first has not: prepare keeps them for validation, and trains on none.
Each clip is an MP4 with a JSON file beside it: speaker, text, the face's box and the mouth's truth frame by frame.
The same seed draws the same clip. Interrupted, the same command goes on after the last clip that was finished.
The voice is eSpeak NG's: pip install espeakng-loader"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "draw",
        help="draw people who speak, to learn from",
        description="Draw stylised people who speak sentences of this project, with known mouths.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="VIDEOS", help="folder to write into")
    parser.add_argument("--clips", type=int, default=100, metavar="N", help="how many, of about 7 s (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first clip (default: 0)")
    parser.add_argument("--held-out", action="store_true", help="speakers and sentences kept out of the others")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="side of the frames (default: 512)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw, and say on stdout what is there."""
    import cv2

    from musetalk_drawn.clips import draw_clips

    cv2.setNumThreads(1)  # so that as many of these as there are cores do not wait for each other
    with StatusLine() as line:
        videos = draw_clips(
            args.output,
            args.clips,
            args.seed,
            args.held_out,
            args.size,
            lambda done, count, last: line.update(f"distill-student: {done} of {count} clips: {last}"),
        )
    print(f"{args.output}: {len(videos)} clips")
    return 0
