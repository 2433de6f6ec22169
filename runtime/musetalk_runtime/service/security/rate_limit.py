"""How many bytes may be uploaded."""

import time

HOUR = 3600.0  # seconds


class Allowance:
    """`limit` bytes an hour, None for any number: what was spent comes back evenly, and at most `limit` is saved up."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._left = float(limit or 0)
        self._looked = time.monotonic()

    def spend(self, count: int) -> bool:
        """Take `count` bytes of it; False, and nothing taken, if less is left."""
        if self.limit is None:
            return True
        now = time.monotonic()
        self._left = min(self.limit, self._left + (now - self._looked) * self.limit / HOUR)
        self._looked = now
        if count > self._left:
            return False
        self._left -= count
        return True
