"""Whether generation keeps up with playback, and who is told when it does not."""

import time
from fractions import Fraction

from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.session.event_stream import Notices
from musetalk_runtime.service.session.playback_clock import PlaybackClock

LATE = 0.1  # seconds that playback has waited, to be told
QUIET = 1.0  # seconds between warnings, and after a jump


class Pace:
    """Lets the playback `clock` of one session wait for its frames, and warns when it has to.

    ``factor`` is the seconds of stream made a second between the last two calls of `measure`.
    """

    def __init__(self, clock: PlaybackClock, fps: Fraction, metrics: Metrics, notices: Notices) -> None:
        self.factor = 0.0
        self._clock = clock
        self._fps = fps
        self._metrics = metrics
        self._notices = notices
        self._waited = 0.0
        self._quiet_until = 0.0
        self._jumped_until = 0.0
        self._measured = (time.monotonic(), 0)

    def made(self, frames: int) -> None:
        """Note that there are `frames` frames."""
        if time.monotonic() < self._jumped_until:
            return
        self._waited += self._clock.wait(float(frames / self._fps))
        if self._waited > LATE and time.monotonic() > self._quiet_until:
            self._metrics.add("late_total")
            self._notices.post("warning", message=f"playback had to wait {self._waited:.2f} s for generation")
            self._waited, self._quiet_until = 0.0, time.monotonic() + QUIET

    def forgive(self) -> None:
        """Playback has just jumped ahead: give generation a moment to follow, before playback waits for it."""
        self._jumped_until = time.monotonic() + QUIET

    def measure(self, frames: int) -> None:
        """Find ``factor``, when there are `frames` frames."""
        (before, counted), now = self._measured, time.monotonic()
        self.factor = float((frames - counted) / self._fps) / max(1e-3, now - before)
        self._measured = (now, frames)
