"""Mixing the channels of audio: for a listener, and for a model that hears one."""

from math import exp

import av
import numpy as np

from musetalk_runtime.core.arrays import Floats

LAYOUTS = {3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # of channels without a layout, as WAV has it
POLARITY_S = 0.3  # seconds over which two channels are compared
OPPOSITE, ALIKE = -0.6, -0.3  # correlations at which the second channel is turned over, and back


def mix(samples: Floats, channels: int, layout: str, rate: int) -> Floats:
    """`samples` ``[n channels, n]`` as one or two channels; `layout` is FFmpeg's name of theirs."""
    if len(samples) > 2:
        samples = _stereo(samples, layout, rate)
    if len(samples) == channels:
        return samples
    return np.repeat(samples, 2, axis=0) if channels == 2 else _mean(samples)


def _stereo(samples: Floats, layout: str, rate: int) -> Floats:
    """By FFmpeg's matrix; layouts that it has none for are averaged."""
    for name in (layout, LAYOUTS.get(len(samples), "")):
        try:
            if av.AudioLayout(name).nb_channels != len(samples):
                continue
            frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1), format="flt", layout=name)
            frame.sample_rate = rate
            (mixed,) = av.AudioResampler(format="fltp", layout="stereo", rate=rate).resample(frame)
        except (av.FFmpegError, ValueError):
            continue
        stereo: Floats = mixed.to_ndarray()
        return stereo
    return np.repeat(_mean(samples), 2, axis=0)


def _mean(samples: Floats) -> Floats:
    mean: Floats = samples.mean(axis=0, keepdims=True)
    return mean


class MonoMix:
    """One channel of two, in which a voice is heard that is in either, or in both with opposite signs.

    Opposite channels cancel in their mean. So their correlation is followed, and the second is turned over while it is
    the negative of the first.
    """

    def __init__(self) -> None:
        self._product = self._power = 0.0
        self._sign: float | None = None

    def __call__(self, samples: Floats, rate: int) -> Floats:
        """The mix ``[n]`` of `samples` ``[1 or 2, n]``."""
        if len(samples) == 1:
            return samples[0]
        left, right = samples
        kept = exp(-len(left) / rate / POLARITY_S)
        self._product = kept * self._product + float(np.dot(left, right))
        self._power = kept * self._power + float(np.dot(left, left) + np.dot(right, right)) / 2
        before = self._sign
        if self._product < OPPOSITE * self._power:
            self._sign = -1.0
        elif self._sign is None or self._product > ALIKE * self._power:
            self._sign = 1.0
        gain = np.linspace(self._sign if before is None else before, self._sign, len(left), dtype=np.float32)
        return np.asarray((left + gain * right) * np.float32(0.5), np.float32)
