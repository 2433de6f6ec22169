"""Whisper's log-mel spectrogram, computed incrementally for live speech."""

import numpy as np

from musetalk_runtime.audio.mel import EDGE, FFT, SILENCE, log_energies, normalize
from musetalk_runtime.audio.rolling_array import RollingArray
from musetalk_runtime.core.arrays import Floats, Indices
from musetalk_runtime.core.model import HOP

EDGE_HOPS = -(-EDGE // HOP)  # a frame that is this many frames from an end does not depend on it


class RollingMel:
    """`log_mel`, bit for bit, of a window of `length` mel frames that moves along speech and ends in silence.

    Only frames near the ends, of the window or of the speech in it, depend on where these are, and are computed anew.
    All others are computed once.
    """

    def __init__(self, bins: int, length: int) -> None:
        self._bins = bins
        self._length = length
        self._samples = RollingArray()
        self._logs = RollingArray(bins)  # of the frames far from the ends

    @property
    def heard(self) -> int:
        """Samples heard so far."""
        return self._samples.end

    def feed(self, samples: Floats) -> None:
        """Hear the next mono 16 kHz samples ``[n]``."""
        self._samples.append(samples)

    def forget(self, first: int) -> None:
        """No window will begin before the mel frame `first`."""
        self._samples.forget(first * HOP)
        self._logs.forget(first + EDGE_HOPS)

    def window(self, first: int, end: int) -> Floats:
        """Log-mel ``[bins, length]`` of the samples heard from ``first * HOP`` to ``end * HOP``, then silence.

        `first` and `end` must not decrease from call to call; ``first < end <= first + length``.
        """
        inner = range(first + EDGE_HOPS, end - EDGE_HOPS + 1)
        self.forget(first)
        new = range(self._logs.end - first, max(self._logs.end, inner.stop) - first)
        edges = self._edges(end - first)
        heard = self._samples.between(first * HOP, end * HOP)
        logs = log_energies(np.concatenate([_frames(heard, new), self._edge_frames(heard, edges)]), self._bins)
        self._logs.append(logs[:, : len(new)])
        window = np.full((self._bins, self._length), SILENCE)
        if inner:
            window[:, inner.start - first : inner.stop - first] = self._logs.between(inner.start, inner.stop)
        window[:, edges] = logs[:, len(new) :]
        return normalize(window)

    def _edges(self, end: int) -> Indices:
        """The frames that depend on where the window begins, or where its speech ends: at frame `end`."""
        near = {*range(EDGE_HOPS), *range(end - EDGE_HOPS + 1, end + EDGE_HOPS)}
        return np.array(sorted(number for number in near if number < self._length))

    def _edge_frames(self, heard: Floats, numbers: Indices) -> Floats:
        """The samples ``[len(numbers), FFT]`` of those of the window's frames, reflected at the window's ends."""
        last = self._length * HOP - 1
        at = np.abs(numbers[:, None] * HOP + np.arange(-EDGE, FFT - EDGE))
        at = last - np.abs(last - at)
        frames: Floats = np.where(at < len(heard), heard.take(at, mode="clip"), np.float32(0))
        return frames


def _frames(heard: Floats, numbers: range) -> Floats:
    """The samples ``[len(numbers), FFT]`` of those frames of a window, which lie in what is `heard` of it."""
    if not numbers:
        return np.empty((0, FFT), np.float32)
    part = heard[numbers.start * HOP - EDGE : numbers[-1] * HOP - EDGE + FFT]
    return np.lib.stride_tricks.sliding_window_view(part, FFT)[::HOP]
