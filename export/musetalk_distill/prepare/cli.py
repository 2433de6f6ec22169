"""The command ``distill-student prepare``."""

import argparse
import json
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  distill-student prepare HDTF -o hdtf.shards --checkpoint models --face-model face_detection_yunet.onnx
  distill-student prepare drawn -o drawn.shards --checkpoint models --face-boxes-from-json

VIDEOS is a folder of videos at any depth, each of one person who speaks. The speaker is the first folder below VIDEOS,
or the file's name without the numbers at its end. A JSON file beside a video (talk.json or talk.mp4.json) may give
  "speaker": a name
  "face_box": [x0, y0, x1, y1] in pixels, or a list of one a frame, from the eyebrows to just below the chin
  "opening": a list of numbers, one a frame: how far the mouth is open; evaluation reads it
  "held_out": true where the speaker is kept for validation, which then takes these speakers and no others

A speaker is learnt from or kept for validation, never both. Where no JSON file holds anybody out, a hash of the names
chooses. Videos that are broken or show no face are told of and left out, as are links to nothing and other things that
are named like videos. Interrupted, the same command goes on after the last video that was finished."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="turn videos of people who speak into training shards",
        description="Turn videos of people who speak into training shards: latents of the face and audio states.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of videos, see below")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SHARDS", help="folder to write")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="CKPT", help="whose VAE and Whisper encoders to use"
    )
    face = parser.add_mutually_exclusive_group()
    face.add_argument("--face-model", type=Path, metavar="YUNET", help="face detector (ONNX), where no box is given")
    face.add_argument("--face-boxes-from-json", action="store_true", help="leave out videos without a given box")
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        metavar="X",
        help="share of speakers for validation, where no JSON file holds any out (default: 0.1)",
    )
    parser.add_argument("--fps", type=int, default=25, metavar="N", help="frames a second of the clips (default: 25)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare, and say on stdout what came of it."""
    from musetalk_distill.prepare.options import PrepareOptions

    options = PrepareOptions(args.face_model, args.face_boxes_from_json, args.val_share, args.fps)
    from musetalk_distill.prepare.prepare import prepare_shards  # torch takes seconds to import

    report = prepare_shards(args.videos, args.output, args.checkpoint, options)
    print(json.dumps(report.to_json(), indent=1) if args.json else report.table())
    return 0
