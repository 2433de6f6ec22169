"""The flicker of one model's pictures against another's: how much more or less they change from frame to frame."""

from collections.abc import Sequence

from torch import Tensor

from musetalk_distill.train.tasks.latent_decoder import mouth

LEVELS = 255  # of a picture whose values are in [0, 1]

Place = tuple[int, int]
"""A clip and a frame in it."""


class Flicker:
    """dtSSD of all mouths, in levels of 255: the mean over neighbouring frames t and t + 1 of

        sqrt(mean over pixels and channels of ((found[t + 1] - found[t]) - (expected[t + 1] - expected[t]))^2)

    Erofeev et al., "Perceptually motivated benchmark for video matting" (2015), define it for mattes. An error that
    stays the same does not count, however large; one that comes and goes does.
    """

    def __init__(self) -> None:
        self._sum, self._pairs = 0.0, 0
        self._last: tuple[Place, Tensor] | None = None

    def add(self, found: Tensor, expected: Tensor, places: Sequence[Place]) -> None:
        """Compare the mouths of pictures ``[N, 3, I, I]`` in [0, 1], those of the frames `places`, in order."""
        errors = mouth(found).double() - mouth(expected).double()
        for place, error in zip(places, errors, strict=True):
            if self._last is not None and self._last[0] == (place[0], place[1] - 1):
                self._sum += float((error - self._last[1]).square().mean().sqrt())
                self._pairs += 1
            self._last = place, error

    @property
    def value(self) -> float | None:
        """Levels, or None if no two frames were neighbours."""
        return LEVELS * self._sum / self._pairs if self._pairs else None
