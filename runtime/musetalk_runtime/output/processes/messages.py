"""The messages between a session and its encoder process, on a socket of their own.

A session begins with OPENING. Each request is answered by one reply, so that a stall is seen where it happens.
"""

import json
import struct
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from musetalk_runtime.output.muxer import StreamStart
from musetalk_runtime.output.video import Picture, VideoOptions

LENGTH = struct.Struct("<I")  # bytes of OPENING, which is JSON
REQUEST = struct.Struct("<B?QqIII")
"""FRAME or END, whether it is to be a keyframe, its index, the frame's place in the shared memory or -1, bytes of the
frame that follow then, samples of sound that follow, for each channel, and the kbit/s of the video, 0 as before."""
REPLY = struct.Struct("<?IQI?")
"""Whether it went well, bytes of the stream, or of the reason, that follow, the first frame that is in no fragment yet,
bytes of the frame's access unit that follow then, whether that is a keyframe."""
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
            "start": [self.start.frame, self.start.sample],
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
