"""Frame-rate conversion: one constant rate for a video, and the source frame shown at each tick of it."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

STILL_RATE = Fraction(25)
MAX_RATE = 30
VARIABLE_RATES = (24, 25, 30)


def resample(times: Sequence[float], stated: Fraction | None) -> tuple[Fraction, list[int]]:
    """Frame rate, and the index of the source frame for every tick, of a video whose frames appear at `times`.

    `times` are seconds, not decreasing; `stated` is the rate its file claims. A steady rate is kept, or divided by a
    whole number when above 30. An unsteady one becomes 24, 25 or 30, whichever is nearest to its mean.
    """
    count = len(times)
    span = times[-1] - times[0]
    if count == 1 or span <= 0:
        return (stated if stated and count > 1 and stated <= MAX_RATE else STILL_RATE), list(range(count))
    mean = (count - 1) / span
    for rate in (stated, Fraction(mean).limit_denominator(1001)):
        if rate and _is_steady(times, rate):
            step = max(1, math.ceil((rate - Fraction(1, 2)) / MAX_RATE))
            return rate / step, list(range(0, count, step))
    nearest = min(VARIABLE_RATES, key=lambda choice: abs(choice - mean))
    return Fraction(nearest), _shown_at_ticks(times, nearest)


def nearest_frames(times: Sequence[float], fps: Fraction) -> list[int]:
    """The index of the frame nearest in time for every tick of `fps`, from the first frame on; `times` as above."""
    if len(times) == 1 or times[-1] <= times[0]:
        return [0]
    ticks = round(_lasts(times) * fps)
    instants = times[0] + np.arange(max(1, ticks)) / float(fps)
    between = (np.asarray(times[1:]) + np.asarray(times[:-1])) / 2
    indexes: list[int] = np.searchsorted(between, instants, side="right").tolist()
    return indexes


def _is_steady(times: Sequence[float], rate: Fraction) -> bool:
    """Whether every frame lies within half a frame of where the rate puts it."""
    expected = times[0] + np.arange(len(times)) / float(rate)
    return bool(np.all(np.abs(np.asarray(times) - expected) < 0.5 / rate))


def _shown_at_ticks(times: Sequence[float], rate: int) -> list[int]:
    interval = min(1 / rate, (times[-1] - times[0]) / (len(times) - 1))
    ticks = max(1, round(_lasts(times) * rate))
    instants = times[0] + np.arange(ticks) / rate + interval / 8  # timestamps are rounded, in Matroska to 1 ms
    indexes: list[int] = (np.searchsorted(times, instants, side="right") - 1).tolist()
    return indexes


def _lasts(times: Sequence[float]) -> float:
    """Seconds from the first frame to the end of the last, if that is shown as long as the mean."""
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)
