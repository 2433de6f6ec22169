"""The fragments of an MP4 stream: where viewers can begin and go on."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.delivery.mp4_boxes import HEADER_BYTES, Track, read_runs, read_tracks

MAX_FRAGMENT_BYTES = 64 << 20  # of a box, or of all boxes of one fragment


@dataclass(frozen=True)
class Fragment:
    """A ``moof``, its ``mdat`` and what lies before or between them.

    ``number`` counts from 1, as ``mfhd`` does; ``offset`` is its place in the stream in bytes; ``start`` the time of
    its first frame in seconds; ``keyframe`` whether a viewer can begin with it; ``frames`` how many of video it has;
    ``segment`` how many keyframes there were up to it.
    """

    number: int
    offset: int
    start: float
    keyframe: bool
    data: bytes
    frames: int = 0
    segment: int = 0

    @property
    def end(self) -> int:
        """The place in the stream after its last byte."""
        return self.offset + len(self.data)


class Splitter:
    """Cuts fragmented MP4, fed in pieces of any length, into the init segment and fragments.

    ``init`` is ``ftyp`` and ``moov``, once they are whole. Raises InvalidMedia for boxes out of order or out of
    bounds; what is held is never more than MAX_FRAGMENT_BYTES bytes and a piece.
    """

    def __init__(self) -> None:
        self.init: bytes | None = None
        self._tracks: dict[int, Track] = {}
        self._buffer = bytearray()
        self._boxes = b""  # whole boxes of the fragment in hand
        self._moof: bytes | None = None
        self._last = Fragment(0, 0, 0.0, False, b"")

    def feed(self, data: bytes) -> list[Fragment]:
        """The fragments that end in `data`, the next bytes of the stream."""
        self._buffer += data
        found = (self._take(name, box) for name, box in self._whole_boxes())
        return [fragment for fragment in found if fragment]

    def finish(self) -> None:
        """The stream is over; raises InvalidMedia where that is in the middle of a fragment."""
        if self._buffer or self._boxes or self.init is None:
            raise InvalidMedia("the stream ends in the middle of a fragment")

    def _whole_boxes(self) -> Iterator[tuple[str, bytes]]:
        while len(self._buffer) >= HEADER_BYTES:
            size, kind = struct.unpack_from(">I4s", self._buffer)
            if not HEADER_BYTES <= size <= MAX_FRAGMENT_BYTES - len(self._boxes):
                raise InvalidMedia(
                    f"an MP4 box {kind!r} has size {size}, out of range [{HEADER_BYTES}, {MAX_FRAGMENT_BYTES}]"
                )
            if len(self._buffer) < size:
                return
            box = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield kind.decode("latin-1"), box

    def _take(self, name: str, box: bytes) -> Fragment | None:
        self._boxes += box
        if self.init is None:
            self._begin(name, box)
        elif name == "moof" and self._moof is None:
            self._moof = box[HEADER_BYTES:]
        elif name == "mdat" and self._moof is not None:
            moof, self._moof = self._moof, None
            return self._cut(*self._read(moof))
        elif name in ("ftyp", "moov", "moof", "mdat"):
            raise InvalidMedia(f"an MP4 box {name!r} is out of order")
        return None

    def _begin(self, name: str, box: bytes) -> None:
        if name in ("moof", "mdat") or not self._boxes.startswith(b"ftyp", 4):
            raise InvalidMedia(f"an MP4 stream begins with {name!r}, expected 'ftyp' and 'moov'")
        if name == "moov":
            self._tracks = read_tracks(box[HEADER_BYTES:])
            self.init, self._boxes = self._boxes, b""
            self._last = Fragment(0, 0, 0.0, False, self.init)

    def _read(self, moof: bytes) -> tuple[float, bool, int]:
        runs = read_runs(moof, self._tracks)
        video = next((run for run in runs if run.track.kind == "vide"), None)
        if video:
            return video.start, video.keyframe, video.samples
        return (runs[0].start if runs else self._last.start), False, 0

    def _cut(self, start: float, keyframe: bool, frames: int) -> Fragment:
        segment = self._last.segment + keyframe
        self._last = Fragment(self._last.number + 1, self._last.end, start, keyframe, self._boxes, frames, segment)
        self._boxes = b""
        return self._last


def split(stream: Iterable[bytes]) -> tuple[bytes | None, list[Fragment]]:
    """The init segment and all fragments of a stream that is there already."""
    splitter = Splitter()
    fragments = [fragment for data in stream for fragment in splitter.feed(data)]
    splitter.finish()
    return splitter.init, fragments
