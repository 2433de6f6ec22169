"""A mute for a session that is interrupted: its sound fades out, and in again at a given time."""

import threading

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Floats

FADE_SAMPLES = SOUND_RATE // 50  # samples in which sound goes silent


class Mute:
    """Passes sound on, sample for sample; silent from where `silence` is called. `silence` is for any thread.

    ``position`` is what has passed, in samples.
    """

    def __init__(self) -> None:
        self.position = 0
        self._lock = threading.Lock()
        self._silent = (0, 0)  # from, to

    def silence(self, until: float) -> float:
        """Be silent from here to the second `until`; gives the second where the silence began."""
        with self._lock:
            begin, end = self._silent
            if self.position >= end:
                begin = self.position
            self._silent = begin, max(end, round(until * SOUND_RATE))
            return begin / SOUND_RATE

    def pass_on(self, sound: Floats) -> Floats:
        """The next `sound` ``[channels, n]`` at 48 kHz, as it may be heard."""
        with self._lock:
            begin, end = self._silent
            at, self.position = self.position, self.position + sound.shape[1]
        if not begin < end or at >= end or self.position <= begin:
            return sound
        samples = np.arange(at, self.position)
        gain = np.clip(1 - (samples - begin) / FADE_SAMPLES, 0, 1)
        gain[samples >= end] = 1
        return (sound * gain).astype(np.float32)
