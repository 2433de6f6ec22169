"""Mixing any number of channels to one."""

from math import exp

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.arrays import Floats

POLARITY_S = 0.3  # seconds over which channels are compared
OPPOSITE, ALIKE = -0.6, -0.3  # correlations at which a channel is turned over, and back
SILENT = 0.01  # of the loudest channel's power


class MonoMix:
    """One channel of several, in which a voice is heard that is in any of them, or in some with opposite signs.

    Opposite channels cancel in their mean. So their correlation with one of them is followed, and each is turned over
    while it is the negative of that one. Silent channels make others no quieter, but for two, of which each is half.
    """

    def __init__(self) -> None:
        self._products: npt.NDArray[np.float64] = np.zeros((0, 0))  # each channel's with each
        self._gains: Floats = np.zeros(0, np.float32)
        self._reference = 0

    def __call__(self, samples: Floats, rate: int) -> Floats:
        """The mix ``[n]`` of `samples` ``[channels, n]``."""
        count, length = samples.shape
        if count == 1:
            mono: Floats = samples[0]
            return mono
        begins = len(self._products) != count
        if begins:
            self._products, self._gains = np.zeros((count, count)), np.full(count, 1 / count, np.float32)
        varying = samples - samples.mean(axis=1, keepdims=True)  # a constant offset is no likeness
        self._products = exp(-length / rate / POLARITY_S) * self._products + varying @ varying.T
        before, self._gains = self._gains, self._new_gains()
        if begins or np.array_equal(before, self._gains):
            return np.asarray(self._gains @ samples, np.float32)
        ramp = np.linspace(before, self._gains, length, axis=1, dtype=np.float32)
        return np.asarray((ramp * samples).sum(axis=0), np.float32)

    def _new_gains(self) -> Floats:
        power = self._products.diagonal()
        if power[self._reference] <= SILENT * power.max():
            self._reference = int(power.argmax())
        product, size = self._products[self._reference], (power + power[self._reference]) / 2
        signs = np.where(product > ALIKE * size, 1, np.sign(self._gains))
        signs = np.where(product < OPPOSITE * size, -1, signs)
        heard = np.count_nonzero(power > SILENT * power.max())
        return np.asarray(signs / max(2, heard), np.float32)
