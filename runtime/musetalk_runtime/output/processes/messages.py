"""The messages between a session and its encoder process, on a socket of their own.

A session begins with OPENING. Each request but those that say that more follows is answered by one reply, for it and
those before it, so that a stall is seen where it happens.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from musetalk_runtime.output.muxer import StreamStart
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions

LENGTH = struct.Struct("<I")  # bytes of OPENING, which is JSON
REQUEST = struct.Struct("<B??QqIII")
"""FRAME or END, whether more follows at once, whether it is to be a keyframe, its index, the frame's place in the
shared memory or -1, bytes of the frame that follow then, samples of sound that follow, for each channel, and the kbit/s
of the video, 0 as before. Sound follows END only where it belongs to frames that were sent to another process."""
REPLY = struct.Struct("<?IIIQQ")
"""Whether it went well, how many access units follow, bytes of all that follows, bytes of the stream, or of the reason,
and the first frame and the first sample of sound that are in no fragment yet. The stream follows, then the UNIT of
each, then their bytes."""
UNIT = struct.Struct("<QI?")
"""The index of an access unit's frame, its bytes, and whether it is a keyframe."""
FRAME, END = 0, 1
NOT_SHARED = -1


@dataclass(frozen=True)
class Opening:
    """What a muxer is made with. See ``Muxer``."""

    container: str
    picture: Picture
    channels: int
    options: VideoOptions
    start: StreamStart

    def to_bytes(self) -> bytes:
        picture = self.picture
        content = {
            "container": self.container,
            "picture": [picture.width, picture.height, picture.fps.numerator, picture.fps.denominator],
            "channels": self.channels,
            "options": asdict(self.options),
            "start": [self.start.frame, self.start.sample, self.start.heard],
        }
        text = json.dumps(content).encode()
        return LENGTH.pack(len(text)) + text

    @classmethod
    def from_bytes(cls, text: bytes) -> "Opening":
        content: dict[str, Any] = json.loads(text)
        width, height, *rate = content["picture"]
        return cls(
            content["container"],
            Picture(width, height, Fraction(*rate)),
            content["channels"],
            VideoOptions(**content["options"]),
            StreamStart(*content["start"]),
        )


@dataclass(frozen=True)
class Reply:
    """``stream`` is what was written of it, or the reason where it did not go ``well``; ``units`` are those made since
    the last reply; ``unwritten`` is what is in no fragment yet.
    """

    stream: bytes
    unwritten: StreamStart
    units: Sequence[AccessUnit] = ()
    well: bool = True

    def to_bytes(self) -> bytes:
        heads = [UNIT.pack(unit.index, len(unit.data), unit.keyframe) for unit in self.units]
        parts = [self.stream, *heads, *(unit.data for unit in self.units)]
        size = sum(map(len, parts))
        start = self.unwritten.frame, self.unwritten.sample
        return b"".join([REPLY.pack(self.well, len(heads), size, len(self.stream), *start), *parts])

    @classmethod
    def from_bytes(cls, data: memoryview) -> "Reply":
        """From all of it; its head says how long that is."""
        well, count, _, size, *start = REPLY.unpack_from(data)
        heads = REPLY.size + size
        at = heads + count * UNIT.size
        units = []
        for index, length, keyframe in UNIT.iter_unpack(data[heads:at]):
            units.append(AccessUnit(index, bytes(data[at : at + length]), keyframe))
            at += length
        return cls(bytes(data[REPLY.size : heads]), StreamStart(*start), units, well)
