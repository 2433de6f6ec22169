"""The progress of an evaluation: the clip, the frames of it that are painted, and the time left."""

import time
from collections.abc import Callable, Sequence

Show = Callable[[str], None]
"""Called with a line to show."""


class Progress:
    """Counts the frames of clips, each painted by every one of `models`. `frames` are those of each clip."""

    def __init__(self, frames: Sequence[int], models: int, show: Show) -> None:
        self._frames, self._models, self._show = frames, models, show
        self._clip, self._painted, self._before = 0, 0, 0
        self._begun = time.monotonic()

    def paint(self, clip: int, count: int) -> None:
        """Note that one model has painted `count` frames of the clip `clip`, counted from 0."""
        if clip != self._clip:
            self._before += self._painted
            self._clip, self._painted = clip, 0
        self._painted += count
        done, total = self._before + self._painted, self._models * sum(self._frames)
        left = (time.monotonic() - self._begun) * (total - done) / done
        where = (
            f"clip {clip + 1} of {len(self._frames)}: {self._painted // self._models} of {self._frames[clip]} frames"
        )
        self._show(f"{where} by {self._models} models, about {left:.0f} s left")

    def measure(self, model: int) -> None:
        """Note that the cost of the model `model`, counted from 0, is being measured."""
        self._show(f"what a frame costs: model {model + 1} of {self._models}")
