"""Mixing two channels to one."""

from math import exp

import numpy as np

from musetalk_runtime.core.arrays import Floats

POLARITY_S = 0.3  # seconds over which two channels are compared
OPPOSITE, ALIKE = -0.6, -0.3  # correlations at which the second channel is turned over, and back


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
            mono: Floats = samples[0]
            return mono
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
