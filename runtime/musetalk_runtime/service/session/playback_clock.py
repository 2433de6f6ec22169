"""The clock of a stream's playback."""

import time
from collections.abc import Callable


class PlaybackClock:
    """Seconds of a stream that a viewer who watches from its beginning has seen.

    It stands at 0 until `start`, and stands still while there is nothing to see (`wait`). One that is moved by two
    threads at once may be off by what one of them moved it. `now` gives monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = now
        self._zero: float | None = None

    @property
    def running(self) -> bool:
        """Whether it has started."""
        return self._zero is not None

    def start(self) -> None:
        """Run from now on; once it runs, nothing changes."""
        if self._zero is None:
            self._zero = self._monotonic()

    def now(self) -> float:
        """Seconds into the stream."""
        zero = self._zero
        return 0.0 if zero is None else self._monotonic() - zero

    def wait(self, seconds: float) -> float:
        """Be at `seconds`, if that is behind: playback has waited for it. Gives how long, in seconds."""
        waited = max(0.0, self.now() - seconds)
        if self._zero is not None:
            self._zero += waited
        return waited

    def jump(self, seconds: float) -> None:
        """Be at `seconds`, if that is ahead."""
        if self._zero is not None:
            self._zero -= max(0.0, seconds - self.now())
