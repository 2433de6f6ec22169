"""The learning-rate schedule: a warm-up, then a cosine."""

from math import cos, pi

FINAL_SHARE = 0.01  # of the highest rate, at the last step


def learning_rate(step: int, steps: int, warmup: int, highest: float) -> float:
    """The rate of step `step` (from 0): a linear rise over `warmup` steps, then half a cosine down to 1% of `highest`.

    A warm-up longer than a tenth of the run is cut to that.
    """
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return highest * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + cos(pi * min(1.0, progress))))
