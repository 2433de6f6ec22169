"""A chunk of audio at two sample rates, the model's and the listener's, and the resampler that makes it."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from musetalk_runtime.audio.mix import MonoMix
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.model import SAMPLE_RATE

SOUND_RATE = 48_000  # of the stream's audio track


@dataclass(frozen=True)
class AudioChunk:
    """The same stretch of audio twice: for the model and for the listener.

    ``speech`` is float32 ``[n]``, mono at 16 kHz; ``sound`` float32 ``[channels, m]`` at 48 kHz. The resamplers'
    delays differ, so the two agree in length only over the whole stream.
    """

    speech: Floats
    sound: Floats


class Resampler:
    """One stream to both rates, at rates that may change on the way."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._rate = 0
        self._mono = MonoMix()
        self._speech = self._sound = av.AudioResampler()

    def __call__(self, samples: Floats, rate: int) -> AudioChunk | None:
        """What `samples` ``[channels, n]`` at `rate` give; None when the resamplers only filled their buffers."""
        before = self.end() if rate != self._rate else None
        if rate != self._rate:
            self._rate = rate
            self._speech = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            layout = "stereo" if self._channels == 2 else "mono"
            self._sound = av.AudioResampler(format="fltp", layout=layout, rate=SOUND_RATE)
        mono = self._mono(samples, rate)[None]
        return _joined(before, self._chunk(audio_frame(mono, rate), audio_frame(samples, rate)))

    def end(self) -> AudioChunk | None:
        """What is left in the resamplers."""
        return self._chunk(None, None) if self._rate else None

    def _chunk(self, speech: av.AudioFrame | None, sound: av.AudioFrame | None) -> AudioChunk | None:
        heard = [out.to_ndarray()[0] for out in self._speech.resample(speech)]
        shown = [out.to_ndarray() for out in self._sound.resample(sound)]
        if not heard and not shown:
            return None
        return AudioChunk(
            np.concatenate([np.empty(0, np.float32), *heard]).clip(-1, 1),
            np.concatenate([np.empty((self._channels, 0), np.float32), *shown], axis=1).clip(-1, 1),
        )


def audio_frame(samples: Floats, rate: int, first: int | None = None) -> av.AudioFrame:
    """`samples` ``[channels, n]`` at `rate` for FFmpeg, the first of which has the number `first` in the stream."""
    layout = "stereo" if len(samples) == 2 else "mono"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate
    if first is not None:
        frame.pts, frame.time_base = first, Fraction(1, rate)
    return frame


def _joined(a: AudioChunk | None, b: AudioChunk | None) -> AudioChunk | None:
    if a is None or b is None:
        return a or b
    return AudioChunk(np.concatenate([a.speech, b.speech]), np.concatenate([a.sound, b.sound], axis=1))
