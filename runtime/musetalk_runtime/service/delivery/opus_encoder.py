"""An Opus encoder for the sound of a stream."""

from fractions import Fraction
from typing import Any

import av
import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Floats

BITS_PER_SECOND = 64_000
SILENCE = b"\xfc\xff\xfe"  # a packet of 20 ms, stereo, as the encoder makes it of nothing
OPTIONS = {"application": "lowdelay", "frame_duration": "20"}


class OpusEncoder:
    """Encodes sound from sample `begin` of the stream on, in packets of 20 ms."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._samples = 0
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = SOUND_RATE, "stereo", "flt"
        context.bit_rate, context.options = BITS_PER_SECOND, OPTIONS
        self._context = context

    def encode(self, sound: Floats) -> list[tuple[bytes, Fraction]]:
        """The packets that the next `sound` ``[channels, n]`` completes, and their times in seconds."""
        if not sound.shape[1]:
            return []
        both = np.broadcast_to(sound, (2, sound.shape[1])).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(both).reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, self._samples
        self._samples += sound.shape[1]
        packets = self._context.encode(frame)
        return [(bytes(packet), Fraction(self._begin + packet.pts, SOUND_RATE)) for packet in packets]
