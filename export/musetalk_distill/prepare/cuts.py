"""The stretches of a video that become clips."""

import math
from collections.abc import Sequence
from fractions import Fraction

from musetalk_runtime.audio.states import STATES_PER_SECOND
from musetalk_runtime.avatar.box import Box

MAX_SECONDS, MIN_SECONDS = 30, 1  # of a clip
MIN_OVERLAP = 0.3  # intersection over union of the boxes of one face in two frames that follow each other


def cut_clips(boxes: Sequence[Box | None], fps: Fraction) -> list[range]:
    """Stretches of frames, each with one face all through, of 1 to 30 s; long ones are cut into equal parts.

    A stretch ends where the face is missing or jumps (another shot), and begins on a frame whose time is that of an
    audio state, so that a clip's states are a part of the video's.
    """
    step = (STATES_PER_SECOND / fps).denominator
    longest = int(MAX_SECONDS * fps) // step * step
    clips = []
    for run in _runs(boxes):
        begin = -(-run.start // step) * step
        count = max(1, run.stop - begin)
        length = math.ceil(count / -(-count // longest) / step) * step
        clips += [range(start, min(start + length, run.stop)) for start in range(begin, run.stop, length)]
    return [clip for clip in clips if len(clip) >= MIN_SECONDS * fps]


def _runs(boxes: Sequence[Box | None]) -> list[range]:
    runs: list[range] = []
    start = 0
    for index in range(1, len(boxes) + 1):
        if index < len(boxes) and _same_face(boxes[index - 1], boxes[index]):
            continue
        if boxes[start] is not None:
            runs.append(range(start, index))
        start = index
    return runs


def _same_face(a: Box | None, b: Box | None) -> bool:
    if a is None or b is None:
        return a is b
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared >= MIN_OVERLAP * (_area(a) + _area(b) - shared)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
