"""The learning rate and the decay of the averaged weights, as functions of the step alone."""

from math import cos, pi

FLOOR = 0.01  # of the highest rate, at the end


def learning_rate(step: int, steps: int, warmup: int, highest: float) -> float:
    """The rate of step `step` (from 0): a linear rise over `warmup` steps, then half a cosine down to 1% of `highest`.

    A warm-up longer than a tenth of the run is cut to that.
    """
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return highest * (FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(pi * min(1.0, progress))))


def ema_decay(step: int, highest: float) -> float:
    """How much of the average stays at step `step`: little at first, so that it forgets the first weights."""
    return min(highest, (1 + step) / (10 + step))
