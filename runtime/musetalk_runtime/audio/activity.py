"""Voice activity: how much of the generated mouth each frame shows."""

from collections import deque
from fractions import Fraction
from itertools import islice
from math import isclose

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.core.model import STEP

THRESHOLD = 10 ** (-50 / 10)  # mean square of full scale: -50 dBFS
FADE_IN_S = 0.12  # seconds: what is heard ahead of a frame, so the fade is over when the speech begins
FADE_OUT_S = 0.2
HOLD_S = 0.3  # seconds of silence that still count as speech


class Activity:
    """A weight in [0, 1] per frame: 1 in speech, 0 in silence, with short ramps between."""

    def __init__(self, fps: Fraction) -> None:
        self._rise = 1.0 / max(1, round(FADE_IN_S * fps))
        self._fall = 1.0 / max(1, round(FADE_OUT_S * fps))
        self._hold = round(HOLD_S * fps)
        self._silent = self._hold  # frames since the last speech
        self._weight = 0.0
        self._samples = SampleFifo()
        self._powers: deque[float] = deque()  # mean squares, one an audio state
        self._first = 0  # index of the state of self._powers[0]

    def feed(self, samples: npt.NDArray[np.float32]) -> None:
        """Hear the next mono 16 kHz samples ``[n]``."""
        self._samples.push(samples)
        if whole := len(self._samples) // STEP:
            steps = self._samples.take(whole * STEP).reshape(whole, STEP)
            self._powers.extend(np.mean(np.square(steps), axis=1).tolist())

    def weight(self, start: int, steps: int) -> float:
        """The weight of the next frame, whose window is `steps` audio states from index `start` on."""
        for _ in range(min(start - self._first, len(self._powers))):
            self._powers.popleft()
            self._first += 1
        powers = list(islice(self._powers, max(0, start + steps - self._first)))
        loud = bool(powers) and sum(powers) / len(powers) > THRESHOLD
        self._silent = 0 if loud else self._silent + 1
        step = self._rise if self._silent <= self._hold else -self._fall
        weight = min(1.0, max(0.0, self._weight + step))
        self._weight = round(weight) if isclose(weight, round(weight), abs_tol=1e-9) else weight
        return self._weight
