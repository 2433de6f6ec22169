"""Face tracking: one face is followed through the frames of a video, and its path is smoothed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.prepare.face import FACE_VALUES, Faces
from musetalk_runtime.prepare.scene import same_scene

SAME_FACE = 0.3  # intersection over union, from one sighting to the next
SIGMA = 2.0  # frames


def follow_face(sightings: Sequence[Faces], scenes: Sequence[Floats], max_gap: int) -> Faces:
    """One face a frame, ``[n, 14]``, from the faces seen in each of n frames; rows of NaN where there is none.

    The face that is largest when it appears is followed as long as it is seen, others coming and going; then the
    next. Up to `max_gap` frames without it are interpolated, where by `scenes` they show what the frame before or after
    them shows. Its path is smoothed, never across a cut.
    """
    path = np.full((len(sightings), FACE_VALUES), np.nan)
    tracks = _link(sightings, scenes, max_gap)
    start = 0
    while alive := [track for track in tracks if track.frames[-1] >= start]:
        track = min(alive, key=lambda track: _priority(track, start))
        filled = track.filled(scenes)
        begin = max(start, track.frames[0])
        path[begin : track.frames[-1] + 1] = filled[begin - track.frames[0] :]
        start = track.frames[-1] + 1
    return path


@dataclass
class _Track:
    """Sightings of one face: frame numbers, and the face in each."""

    frames: list[int] = field(default_factory=list)
    faces: list[Faces] = field(default_factory=list)

    def filled(self, scenes: Sequence[Floats]) -> Faces:
        """The face in every frame from the first sighting to the last, gaps interpolated, smoothed."""
        every = np.arange(self.frames[0], self.frames[-1] + 1)
        columns = np.array(self.faces).T
        path = _smooth(np.stack([np.interp(every, self.frames, column) for column in columns], axis=1))
        for before, after in pairwise(self.frames):
            for frame in range(before + 1, after):
                if not any(same_scene(scenes[frame], scenes[end]) for end in (before, after)):
                    path[frame - self.frames[0]] = np.nan
        return path


def _link(sightings: Sequence[Faces], scenes: Sequence[Floats], max_gap: int) -> list[_Track]:
    """The sightings of each face; one that is in its place after a cut is another."""
    tracks: list[_Track] = []
    for frame, faces in enumerate(sightings):
        recent = [track for track in tracks if frame - track.frames[-1] <= max_gap + 1]
        open_tracks = [track for track in recent if same_scene(scenes[track.frames[-1]], scenes[frame])]
        pairs = [
            (_overlap(track.faces[-1], face), track, row) for track in open_tracks for row, face in enumerate(faces)
        ]
        taken: set[int] = set()
        for overlap, track, row in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= SAME_FACE and track.frames[-1] < frame and row not in taken:
                track.frames.append(frame)
                track.faces.append(faces[row])
                taken.add(row)
        tracks += [_Track([frame], [face]) for row, face in enumerate(faces) if row not in taken]
    return tracks


def _priority(track: _Track, start: int) -> tuple[int, float]:
    """The earliest first, then the largest as it is there."""
    row = next(row for row, frame in enumerate(track.frames) if frame >= start)
    return max(start, track.frames[0]), -_area(track.faces[row])


def _smooth(path: Faces) -> Faces:
    """Gaussian over time, its weights normalised at the ends."""
    reach = int(3 * SIGMA)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SIGMA) ** 2)
    weights = np.convolve(np.ones(len(path)), kernel)[reach:-reach]
    return np.stack([np.convolve(column, kernel)[reach:-reach] / weights for column in path.T], axis=1)


def _overlap(a: Faces, b: Faces) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, float(width)) * max(0.0, float(height))
    return shared / max(1e-9, _area(a) + _area(b) - shared)


def _area(face: Faces) -> float:
    return float((face[2] - face[0]) * (face[3] - face[1]))
