"""The newest part of a stream, as HLS cuts it: a segment from every keyframe to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from musetalk_runtime.service.fragments import Fragment

LISTED = 6  # segments in a playlist; those dropped from it are held for a while longer
LONGEST = 1  # seconds of a segment, rounded: the encoders make a keyframe a second


@dataclass(frozen=True)
class Segment:
    """``number`` counts keyframes from 1; ``start`` and ``end`` are times in the stream, in seconds."""

    number: int
    start: float
    end: float
    fragments: Sequence[Fragment]

    @property
    def data(self) -> bytes:
        """All of it, joined when asked for: a playlist needs none of it."""
        return b"".join(fragment.data for fragment in self.fragments)


def whole_segments(fragments: Sequence[Fragment], end: float | None) -> list[Segment]:
    """The segments that `fragments`, in order, hold all of; the last one too if the stream is over, at `end` s."""
    groups = [list(group) for number, group in groupby(fragments, lambda fragment: fragment.segment) if number]
    starts = [group[0].start for group in groups]
    ends = [*starts, end][1:]
    return [
        Segment(group[0].segment, start, end, group)
        for group, start, end in zip(groups, starts, ends, strict=True)
        if group[0].keyframe and end is not None
    ]


def playlist(segments: Sequence[Segment], query: str, over: bool) -> str:
    """The newest LISTED of `segments` as a media playlist; `query` goes with every address in it."""
    listed = segments[-LISTED:]
    suffix = f"?{query}" if query else ""
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        f"#EXT-X-TARGETDURATION:{LONGEST}",
        f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number if listed else 1}",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="init.mp4{suffix}"',
    ]
    for segment in listed:
        lines += [f"#EXTINF:{segment.end - segment.start:.5f},", f"{segment.number}.m4s{suffix}"]
    return "\n".join([*lines, *["#EXT-X-ENDLIST"] * over, ""])
