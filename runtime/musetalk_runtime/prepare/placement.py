"""The placement of the face in every frame: box, mask and landmarks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box, box_problem, face_box
from musetalk_runtime.core.arrays import RGB, Floats
from musetalk_runtime.core.errors import FaceNotFound, InvalidArgument
from musetalk_runtime.prepare.face import FaceDetector, Faces
from musetalk_runtime.prepare.mask import face_mask
from musetalk_runtime.prepare.scene import scene_of
from musetalk_runtime.prepare.source.video import VideoSource
from musetalk_runtime.prepare.track import follow_face

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


class Sightings:
    """The faces that a detector finds in frames, and what is around them."""

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._faces: list[Faces] = []
        self._scenes: list[Floats] = []

    def __len__(self) -> int:
        return len(self._faces)

    def add(self, rgb: RGB) -> None:
        """Look at the next frame."""
        self._faces.append(self._detector.detect(rgb))
        self._scenes.append(scene_of(rgb))

    def follow(self, indexes: Sequence[int], fps: Fraction) -> Faces:
        """The one face that is followed through the frames `indexes`, shown at `fps`: ``[n, 14]``, its path smoothed;
        rows of NaN in frames without it.
        """
        faces, scenes = [self._faces[index] for index in indexes], [self._scenes[index] for index in indexes]
        return follow_face(faces, scenes, max_gap=round(MAX_GAP_S * fps))


def followed_placements(source: VideoSource, sightings: Sightings, mask_extent: float) -> list[Placement | None]:
    """The one face that is followed through `sightings`, those of the whole file: its placements, None without it.

    Raises FaceNotFound where no frame has one.
    """
    placements = [_placement(face, source, mask_extent) for face in sightings.follow(source.indexes, source.fps)]
    if not any(placements):
        raise FaceNotFound(
            f"no face found in {len(placements)} frame{'s' if len(placements) > 1 else ''}: use a larger or more "
            "frontal face, give its box by --face-box, or another detector by --face-model"
        )
    return placements


def find_faces(source: VideoSource, detector: FaceDetector, progress: Progress) -> Faces:
    """The one face that is followed, ``[n, 14]``, its path smoothed; rows of NaN in frames without it."""
    sightings = Sightings(detector)
    for rgb in source.frames():
        sightings.add(rgb)
        progress("finding faces", len(sightings), len(source))
    return sightings.follow(range(len(source)), source.fps)


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
