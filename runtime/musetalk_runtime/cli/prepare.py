"""``musetalk-edge prepare``: a video or photo of a person to an avatar."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musetalk_runtime.cli.engine_arguments import add_bundle_argument, open_bundle
from musetalk_runtime.cli.progress import StatusLine
from musetalk_runtime.core.errors import InvalidArgument

if TYPE_CHECKING:
    from musetalk_runtime.avatar.box import Box

EXAMPLES = """\
examples:
  musetalk-edge prepare person.mp4 -b BUNDLE -o AVATAR --preview look.png
  musetalk-edge prepare portrait.jpg -b BUNDLE -o AVATAR --face-model face_detection_yunet.onnx
  musetalk-edge prepare idle.mp4 nod=nod.mp4 wave=wave.mp4 -b BUNDLE -o AVATAR
  musetalk-edge prepare person.webm -b BUNDLE -o AVATAR --background '#00ff00'
  musetalk-edge prepare cartoon.png -b BUNDLE -o AVATAR --face-box 210,180,390,370 --mask-extent 1.3

A video is played forth and back, so a few seconds do. Frames in which no face is found are played as they are.
A photo becomes an avatar that keeps still and moves its mouth. An avatar fits every bundle with the same VAE.

Several clips of one size are poses: the first plays by default, the others when they are asked for by their names."""

LARGE_PIXELS = 1920 * 1088  # a frame: H.264 level 4 takes no more at 30 fps


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="turn a video or photo of a person into an avatar",
        description="Turn a video or photo of a person into an avatar for 'musetalk-edge stream'.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "clips",
        nargs="+",
        type=_clip,
        metavar="[NAME=]VIDEO|PHOTO",
        help="one person, the face well visible; further clips need names, the first is named idle by default",
    )
    add_bundle_argument(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="AVATAR", help="the folder to make")
    face = parser.add_mutually_exclusive_group()
    face.add_argument("--face-model", type=Path, metavar="FILE", help="a YuNet face detector; default: the bundle's")
    face.add_argument(
        "--face-box",
        type=_box,
        metavar="X0,Y0,X1,Y1",
        help="instead of a detector: the box in pixels that is repainted in every frame, from the eyebrows to just "
        "below the chin, its middle on the nose; it may leave the frame (--face-box=-9,40,...)",
    )
    parser.add_argument(
        "--mask-extent",
        type=float,
        default=1.0,
        metavar="X",
        help="how much of the lower face is repainted, 0.5 to 1.6; larger for stylised faces (default: 1)",
    )
    parser.add_argument(
        "--max-seconds", type=float, default=60.0, metavar="S", help="cut a longer video there (default: 60)"
    )
    parser.add_argument(
        "--max-side", type=int, metavar="PX", help="scale larger frames down, so that their longer side has PX pixels"
    )
    parser.add_argument(
        "--background",
        metavar="COLOUR|alpha",
        help="what transparent parts of a source show, such as '#00ff00'; alpha keeps them transparent, for stream -o "
        "FILE.webm (default: photos are on black, videos opaque)",
    )
    parser.add_argument("--preview", type=Path, metavar="PNG", help="draw boxes, landmarks and masks on sample frames")
    parser.add_argument("--json", action="store_true", help="print what was made on stdout, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare, and say on stderr what came of it."""
    from musetalk_runtime.diagnostics.encoding_rate import encoding_rate
    from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

    options = PrepareOptions(
        args.face_model,
        args.face_box,
        args.mask_extent,
        args.max_seconds,
        args.preview,
        args.max_side,
        args.background,
    )
    with open_bundle(args.bundle) as bundle, StatusLine() as status:
        report = prepare_avatar(
            _by_name(args.clips),
            bundle,
            args.output,
            options,
            lambda stage, done, total: status.update(f"{stage}: {done} of {total}"),
        )
    if report.cut:
        what = args.clips[0][1] if len(args.clips) == 1 else "a clip"
        print(f"musetalk-edge: {what} is longer than {args.max_seconds:g} s: cut there", file=sys.stderr)
    print(
        f"musetalk-edge: {args.output}: {report.frames} frames of {report.width}x{report.height} at "
        f"{float(report.fps):g} fps, a face in {report.faces}{_poses(report.poses)}",
        file=sys.stderr,
    )
    for warning in report.warnings:
        print(f"musetalk-edge: warning: {warning}", file=sys.stderr)
    if report.width * report.height > LARGE_PIXELS:
        rate = encoding_rate(report.width, report.height)
        print(
            f"musetalk-edge: warning: libx264 makes {rate:.1f} such frames a second here, generation not counted: "
            "--max-side 1920 makes them smaller",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps(report.to_json()))
    return 0


def _poses(frames: Mapping[str, int]) -> str:
    return f"; poses {', '.join(frames)}" if len(frames) > 1 else ""


def _clip(text: str) -> tuple[str | None, Path]:
    """The name of a clip, if it has one, and its file; a file may have a ``=`` in its name."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and not Path(text).exists() and "/" not in name else (None, Path(text))


def _by_name(clips: Sequence[tuple[str | None, Path]]) -> dict[str, Path]:
    """The clips by name; raises InvalidArgument where one needs a name, or two have the same."""
    from musetalk_runtime.avatar.clips import FIRST_NAME

    named: dict[str, Path] = {}
    for name, path in clips:
        if name is None and named:
            raise InvalidArgument(f"{path}: only the first clip needs no name: write nod={path}, if it shows a nod")
        if (name or FIRST_NAME) in named:
            raise InvalidArgument(f"two clips are named {name}: give each a name of its own")
        named[name or FIRST_NAME] = path
    return named


def _box(text: str) -> Box:
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected four whole numbers x0,y0,x1,y1") from None
    return x0, y0, x1, y1
