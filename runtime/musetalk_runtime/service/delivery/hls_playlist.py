"""The HLS media playlist of a stream's newest segments and parts (RFC 8216, second edition: rfc8216bis)."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from musetalk_runtime.service.delivery.hls_segments import Segment, part_seconds

LISTED_SEGMENTS = 6  # segments in a playlist; those dropped from it are held for a while longer
TARGET_DURATION_S = 1  # of a segment, rounded: the encoders make a keyframe a second
SEGMENTS_IN_PARTS = 3  # segments whose parts are listed too
PARTS_HELD_BACK = 3  # parts that a player stays behind


class Playlist:
    """Of ``segments``, the last of which may not be whole, at `fps`; `over` if there will be no more."""

    def __init__(self, segments: Sequence[Segment], fps: Fraction, over: bool) -> None:
        self.segments = segments
        self._whole = [segment for segment in segments if segment.whole]
        self._growing = next((segment for segment in segments if not segment.whole), None)
        self._fps, self._over = fps, over

    @property
    def next_part(self) -> tuple[int, int]:
        """The segment and the index of the first part that is not there yet."""
        if self._growing:
            return self._growing.number, len(self._growing.parts)
        return (self._whole[-1].number + 1 if self._whole else 1), 0

    def has(self, segment: int, part: int | None) -> bool:
        """Whether it has that part or a later one; or, without a part, all of that segment."""
        number, index = self.next_part
        return number > segment if part is None else (number, index) > (segment, part)

    def text(self, query: str) -> str:
        """The playlist; `query` goes with every address in it."""
        listed = self._whole[-LISTED_SEGMENTS:]
        suffix = f"?{query}" if query else ""
        target = part_seconds(self._fps)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{TARGET_DURATION_S}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={PARTS_HELD_BACK * target:.5f}",
            f"#EXT-X-PART-INF:PART-TARGET={target:.5f}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number if listed else self.next_part[0]}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            f'#EXT-X-MAP:URI="init.mp4{suffix}"',
        ]
        for place, segment in enumerate(listed):
            if place >= len(listed) - SEGMENTS_IN_PARTS:
                lines += _parts(segment, suffix)
            lines += [f"#EXTINF:{segment.seconds:.5f},", f"{segment.number}.m4s{suffix}"]
        if self._growing:
            lines += _parts(self._growing, suffix)
        if self._over:
            lines.append("#EXT-X-ENDLIST")
        else:
            number, index = self.next_part
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{number}.{index}.m4s{suffix}"')
        return "\n".join([*lines, ""])


def _parts(segment: Segment, suffix: str) -> Iterator[str]:
    for part in segment.parts:
        independent = ",INDEPENDENT=YES" if part.index == 0 else ""
        uri = f"{segment.number}.{part.index}.m4s{suffix}"
        yield f'#EXT-X-PART:DURATION={part.seconds:.5f},URI="{uri}"{independent}'
