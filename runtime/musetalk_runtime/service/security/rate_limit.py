"""A limit of the bytes uploaded in an hour."""

import time
from collections.abc import Callable

HOUR_S = 3600.0


class RateLimit:
    """A token bucket of `limit` bytes that fills in an hour; None for no limit. `now` gives monotonic seconds."""

    def __init__(self, limit: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._now = now
        self._left = float(limit or 0)
        self._filled_at = now()

    def spend(self, count: int) -> bool:
        """Take `count` bytes of it; False, and nothing taken, if less is left."""
        if self.limit is None:
            return True
        now = self._now()
        self._left = min(self.limit, self._left + (now - self._filled_at) * self.limit / HOUR_S)
        self._filled_at = now
        if count > self._left:
            return False
        self._left -= count
        return True
