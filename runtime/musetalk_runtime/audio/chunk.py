"""A chunk of audio at two sample rates, the model's and the listener's, and the resampler that makes it."""

from dataclasses import dataclass

import av
import numpy as np

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia
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
    """One decoded stream to both rates."""

    def __init__(self, channels: int) -> None:
        self._speech = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._sound = av.AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=SOUND_RATE)
        self._channels = channels

    def __call__(self, frame: av.AudioFrame | None) -> AudioChunk | None:
        """What `frame`, or the end of the stream, gives; None when the resamplers only filled their buffers.

        Raises InvalidMedia for a layout or a rate that they do not take.
        """
        if frame is not None:
            frame.pts = None  # time is counted in samples
        try:
            speech = [out.to_ndarray()[0] for out in self._speech.resample(frame)]
            sound = [out.to_ndarray() for out in self._sound.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            raise InvalidMedia(f"the audio cannot be resampled: {getattr(error, 'strerror', None) or error}") from None
        if not speech and not sound:
            return None
        return AudioChunk(
            np.concatenate([np.empty(0, np.float32), *speech]),
            np.concatenate([np.empty((self._channels, 0), np.float32), *sound], axis=1),
        )
