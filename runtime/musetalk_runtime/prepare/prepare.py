"""The preparation of an avatar from a video or a photo of a person."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.avatar.clips import FIRST_NAME, MAX_CLIPS, NAME, NAME_FORM
from musetalk_runtime.avatar.pack import AVATAR_KIND, ONE_CLIP, SEVERAL_CLIPS
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import RGB
from musetalk_runtime.core.errors import FaceNotFound, InvalidArgument, InvalidMedia, MuseTalkEdgeError, OutputError
from musetalk_runtime.prepare.avatar_writer import PlacedClip, write_avatar
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.prepare.mask import MAX_EXTENT, MIN_EXTENT
from musetalk_runtime.prepare.placement import Placement, Progress, Sightings, fixed_placements, followed_placements
from musetalk_runtime.prepare.preview import Preview
from musetalk_runtime.prepare.source.colour import TRANSPARENT, parse_background
from musetalk_runtime.prepare.source.video import VideoSource
from musetalk_runtime.storage.destination import Destination, check_distinct
from musetalk_runtime.storage.folder import check_destination, new_folder


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare. Raises InvalidArgument for a value out of its range.

    ``face_model``: a YuNet file, by default the bundle's. ``face_box``: the model's box in every frame, instead of a
    detector. ``mask_extent``: 0.5 to 1.6, how far the mask reaches. ``max_seconds``: a longer video is cut there.
    ``preview``: a PNG file to draw sample frames into. ``max_side``: frames whose longer side has more pixels are
    scaled down to it, None for none; ``face_box`` is in the source's pixels all the same. ``background``: what
    transparent parts show, a colour such as ``#00ff00``, or ``alpha`` to keep them transparent.
    """

    face_model: Path | None = None
    face_box: Box | None = None
    mask_extent: float = 1.0
    max_seconds: float = 60.0
    preview: Path | None = None
    max_side: int | None = None
    background: str | None = None

    def __post_init__(self) -> None:
        if self.face_model is not None and self.face_box is not None:
            raise InvalidArgument("--face-model and --face-box exclude each other: a given box needs no detector")
        if not MIN_EXTENT <= self.mask_extent <= MAX_EXTENT:
            raise InvalidArgument(f"--mask-extent {self.mask_extent} is out of range [{MIN_EXTENT}, {MAX_EXTENT}]")
        if not 0 < self.max_seconds < float("inf"):
            raise InvalidArgument(f"--max-seconds {self.max_seconds} must be a positive number of seconds")
        if self.background is not None:
            parse_background(self.background)
        if self.preview is not None:
            place = Destination(self.preview)
            if place.plain and (self.preview.suffix.lower() != ".png" or not place.path.parent.is_dir()):
                raise InvalidArgument(f"--preview {self.preview}: expected a .png file in a folder that exists")


@dataclass(frozen=True)
class PrepareReport:
    """What came of it: frames, those with a face, rate, size, whether a source was longer than allowed, what else is to
    be told, and the frames of each clip by its name.
    """

    frames: int
    faces: int
    fps: Fraction
    width: int
    height: int
    cut: bool
    warnings: tuple[str, ...] = ()
    poses: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fps": f"{self.fps.numerator}/{self.fps.denominator}"}


def prepare_avatar(
    clips: Path | Mapping[str, Path],
    bundle: Bundle,
    output: Path,
    options: PrepareOptions,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make the avatar folder `output` from a video or photo, or from several by name, replacing an older avatar there.

    All have to be of one size. The first sets the frame rate, and plays by default. Raises a MuseTalkEdgeError
    (InputNotFound, InvalidMedia, InvalidArgument, FaceNotFound, OutputError); nothing is left behind then.
    """
    progress = progress or _no_progress
    check_destination(output, AVATAR_KIND)
    clips = {FIRST_NAME: clips} if isinstance(clips, Path) else dict(clips)
    _check_names(clips)
    named = list(clips) != [FIRST_NAME]
    if options.preview is not None:
        for path in clips.values():
            check_distinct(("the source", path), ("--preview", options.preview))
    transparent = options.background == TRANSPARENT
    placed = _place_all(clips, bundle, options, progress)
    placements = [placement for clip in placed for placement in clip.placements]
    preview = Preview(len(placements))

    def observe(index: int, rgb: npt.NDArray[np.uint8]) -> None:
        preview.add(index, rgb, placements[index])
        progress("encoding frames", index + 1, len(placements))

    try:
        schema = SEVERAL_CLIPS if named else ONE_CLIP
        with new_folder(output, AVATAR_KIND, schema) as (folder, manifest):
            manifest.update(write_avatar(folder, placed, named, transparent, bundle, observe))
            manifest["face"] = _face_entry(bundle, options)
            if options.background:
                manifest["background"] = options.background
            if options.preview is not None:
                preview.write(options.preview)
    except MuseTalkEdgeError:
        raise
    except (OSError, av.error.FFmpegError) as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    return _report(placed)


def _report(placed: Sequence[PlacedClip]) -> PrepareReport:
    first = placed[0].source
    faces = sum(placement is not None for clip in placed for placement in clip.placements)
    return PrepareReport(
        frames=sum(len(clip.source) for clip in placed),
        faces=faces,
        fps=first.fps,
        width=first.width,
        height=first.height,
        cut=any(clip.source.cut for clip in placed),
        warnings=tuple(warning for clip in placed for warning in clip.source.warnings),
        poses={clip.name: len(clip.source) for clip in placed},
    )


def _check_names(clips: Mapping[str, Path]) -> None:
    if not 1 <= len(clips) <= MAX_CLIPS:
        raise InvalidArgument(f"{len(clips)} clips, expected 1 to {MAX_CLIPS}")
    for name in clips:
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"a clip's name is {name[:40]!r}, expected {NAME_FORM}")


def _place_all(
    clips: Mapping[str, Path], bundle: Bundle, options: PrepareOptions, progress: Progress
) -> list[PlacedClip]:
    """The clips, and where the face is in them; raises InvalidMedia for one of another size than the first."""
    placed: list[PlacedClip] = []
    for name, path in clips.items():
        first = placed[0].source if placed else None
        try:
            source, placements = _place(path, bundle, options, first.fps if first else None, progress)
        except FaceNotFound as error:
            raise FaceNotFound(f"{path}: {error}" if len(clips) > 1 else str(error)) from None
        if first and (source.width, source.height) != (first.width, first.height):
            raise InvalidMedia(
                f"{path}: {source.width}x{source.height} pixels, the first clip has {first.width}x{first.height}: "
                "convert them to one size"
            )
        placed.append(PlacedClip(name, source, placements))
    return placed


def _place(
    path: Path, bundle: Bundle, options: PrepareOptions, fps: Fraction | None, progress: Progress
) -> tuple[VideoSource, list[Placement | None]]:
    """The source, and where the face is in each of its frames; faces are looked for while the file is scanned."""
    background = parse_background(options.background) if options.background else None
    if options.face_box is not None:
        source = VideoSource(path, options.max_seconds, fps, options.max_side, background=background)
        x0, y0, x1, y1 = (round(value * source.scale) for value in options.face_box)
        return source, fixed_placements(source, (x0, y0, x1, y1), options.mask_extent)
    model = options.face_model or bundle.face_model
    if model is None:
        raise InvalidArgument(
            "the bundle holds no face detector: give one by --face-model FILE (YuNet, such as OpenCV Zoo's "
            "face_detection_yunet), or the face's box by --face-box x0,y0,x1,y1"
        )
    sightings = Sightings(FaceDetector(model))

    def look(rgb: RGB, total: int) -> None:
        sightings.add(rgb)
        progress("finding faces", len(sightings), total)

    source = VideoSource(path, options.max_seconds, fps, options.max_side, look, background)
    return source, followed_placements(source, sightings, options.mask_extent)


def _face_entry(bundle: Bundle, options: PrepareOptions) -> dict[str, Any]:
    model = None if options.face_box else options.face_model or bundle.face_model
    return {"detector": model and model.name, "box": options.face_box, "mask_extent": options.mask_extent}


def _no_progress(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
