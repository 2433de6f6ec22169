"""The placement of the face in every frame: box, mask and landmarks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box, box_problem, face_box
from musetalk_runtime.core.errors import FaceNotFound, InvalidArgument
from musetalk_runtime.prepare.face import FaceDetector, Faces
from musetalk_runtime.prepare.mask import face_mask
from musetalk_runtime.prepare.track import follow_face
from musetalk_runtime.prepare.video import VideoSource

MAX_GAP_S = 0.5  # seconds without the face that are bridged

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many frames are done, and of how many."""


@dataclass(frozen=True)
class Placement:
    """A face in one frame: the model's box, the blend mask over it (see `face_mask`), and the five landmarks ``[5, 2]``
    in pixels, None for a box by hand."""

    box: Box
    mask: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float64] | None = None


def followed_placements(source: VideoSource, sightings: Sequence[Faces], mask_extent: float) -> list[Placement | None]:
    """The one face that is followed through `sightings`, those of every frame: its placements, None without it.

    Raises FaceNotFound where no frame has one.
    """
    placements = [_placement(face, source, mask_extent) for face in _follow(source, sightings)]
    if not any(placements):
        raise FaceNotFound(
            f"no face found in {len(placements)} frame{'s' if len(placements) > 1 else ''}: use a larger or more "
            "frontal face, give its box by --face-box, or another detector by --face-model"
        )
    return placements


def find_faces(source: VideoSource, detector: FaceDetector, progress: Progress) -> Faces:
    """The one face that is followed, ``[n, 14]``, its path smoothed; rows of NaN in frames without it."""
    sightings = []
    for rgb in source.frames():
        sightings.append(detector.detect(rgb))
        progress("finding faces", len(sightings), len(source))
    return _follow(source, sightings)


def _follow(source: VideoSource, sightings: Sequence[Faces]) -> Faces:
    return follow_face(list(sightings), max_gap=round(MAX_GAP_S * source.fps))


def usable_box(face: Faces, width: int, height: int) -> Box | None:
    """The model's box of one face ``[14]`` in a frame of this size, None where there is no face or no usable box."""
    if np.isnan(face).any():
        return None
    box = face_box(face)
    return None if box is None or box_problem(box, width, height) else box


def fixed_placements(source: VideoSource, box: Box, mask_extent: float) -> list[Placement | None]:
    """The same `box` in every frame; raises InvalidArgument unless it fits the frame's size."""
    if problem := box_problem(box, source.width, source.height):
        raise InvalidArgument(f"--face-box {','.join(map(str, box))} {problem}")
    return [Placement(box, face_mask(box, None, mask_extent))] * len(source)


def _placement(face: Faces, source: VideoSource, mask_extent: float) -> Placement | None:
    box = usable_box(face, source.width, source.height)
    if box is None:
        return None
    landmarks = face[4:].reshape(5, 2)
    return Placement(box, face_mask(box, landmarks, mask_extent), landmarks)
