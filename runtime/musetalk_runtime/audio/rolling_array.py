"""A growing array that forgets its beginning."""

import numpy as np

from musetalk_runtime.core.arrays import Floats


class RollingArray:
    """Columns of float32 ``[..., n]``, by the index they have since the first one; those kept lie in one piece.

    Each is moved about once, and memory is at most three times the most that was kept at once.

    Attributes: ``first`` (index of the first column kept) and ``end`` (one past the last).
    """

    def __init__(self, *shape: int) -> None:
        self.first = self.end = 0
        self._origin = 0  # index of the column at self._array[..., 0]
        self._array = np.empty((*shape, 0), np.float32)

    def append(self, columns: Floats) -> None:
        """Add `columns` ``[..., n]`` at the end."""
        end = self.end + columns.shape[-1]
        if end - self._origin > self._array.shape[-1]:
            kept = self.between(self.first, self.end)
            self._array = np.empty((*kept.shape[:-1], 2 * (end - self.first)), np.float32)
            self._origin = self.first
            self._array[..., : kept.shape[-1]] = kept
        self._array[..., self.end - self._origin : end - self._origin] = columns
        self.end = end

    def forget(self, first: int) -> None:
        """Keep only what comes from index `first` on, which may be past the end: then that is the next one's index."""
        self.first = max(self.first, first)
        if self.first > self.end:
            self.end = self._origin = self.first

    def between(self, low: int, high: int) -> Floats:
        """The columns from index `low` to `high`, which are kept; valid until the next `append`."""
        return self._array[..., low - self._origin : high - self._origin]
