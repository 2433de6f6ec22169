"""A decoder of raw PCM."""

import numpy as np

from musetalk_runtime.audio.chunk import Resampler
from musetalk_runtime.audio.speech_piece import Aligner, SpeechPiece
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE


class PcmDecoder:
    """Makes speech of messages of PCM at `rate` Hz: signed 16-bit little-endian, mono, of whole samples each."""

    def __init__(self, rate: int = SAMPLE_RATE) -> None:
        self._rate = rate
        self._resample, self._align = Resampler(channels=1), Aligner()

    def __call__(self, data: bytes) -> SpeechPiece:
        """The next message; a millisecond of it may come with the one after. Raises InvalidMedia."""
        if len(data) % 2:
            raise InvalidMedia(f"expected messages of whole samples: s16le, mono, {self._rate} Hz")
        return self._align(self._resample(np.frombuffer(data, "<i2")[None] / np.float32(32768), self._rate))
