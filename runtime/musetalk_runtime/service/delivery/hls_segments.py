"""HLS segments and their parts: a segment lasts from one keyframe to the next, a part is a few fragments of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

from musetalk_runtime.output.muxer import fragment_frames
from musetalk_runtime.service.delivery.fragments import Fragment

PART_S = Fraction(1, 3)  # seconds of a part, about


@dataclass(frozen=True)
class Part:
    """Some fragments of a segment, whose first part has ``index`` 0, and how long they are."""

    index: int
    seconds: float
    fragments: Sequence[Fragment]

    @property
    def data(self) -> bytes:
        """All of it, joined when asked for: a playlist needs none of it."""
        return b"".join(fragment.data for fragment in self.fragments)


@dataclass(frozen=True)
class Segment:
    """``number`` counts keyframes from 1; ``whole`` tells that ``fragments`` and ``parts`` are all of it.

    At the end of a stream, sound that lasts longer than the last frame may be in no part.
    """

    number: int
    seconds: float
    fragments: Sequence[Fragment]
    parts: Sequence[Part]
    whole: bool

    @property
    def data(self) -> bytes:
        """All of it, joined when asked for."""
        return b"".join(fragment.data for fragment in self.fragments)


def part_frames(fps: Fraction) -> int:
    """How many frames a part has, but for the last one of a segment, which may have fewer."""
    return max(1, round(PART_S * fps / fragment_frames(fps))) * fragment_frames(fps)


def part_seconds(fps: Fraction) -> float:
    """How long such a part is."""
    return float(part_frames(fps) / fps)


def cut(fragments: Sequence[Fragment], fps: Fraction, over: bool) -> list[Segment]:
    """The segments that `fragments`, in order, hold from their keyframe on. The last is whole if the stream is `over`.

    A part is there once it can grow no more.
    """
    groups = [list(group) for _, group in groupby(fragments, lambda fragment: fragment.segment)]
    if groups and not groups[0][0].keyframe:
        del groups[0]
    return [_segment(group, fps, over or group is not groups[-1]) for group in groups]


def _segment(fragments: Sequence[Fragment], fps: Fraction, whole: bool) -> Segment:
    size, seen = part_frames(fps), [fragment for fragment in fragments if fragment.frames]
    begin, rate = fragments[0].start, float(fps)
    pieces = [list(piece) for _, piece in groupby(seen, lambda part: round((part.start - begin) * rate) // size)]
    parts = [
        Part(index, _seconds(piece, fps), piece)
        for index, piece in enumerate(pieces)
        if whole or sum(fragment.frames for fragment in piece) == size
    ]
    return Segment(fragments[0].segment, _seconds(fragments, fps), fragments, parts, whole)


def _seconds(fragments: Sequence[Fragment], fps: Fraction) -> float:
    return float(sum(fragment.frames for fragment in fragments) / fps)
