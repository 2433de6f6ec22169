"""A measure of whether generation keeps up with playback."""

import time
from fractions import Fraction

from musetalk_runtime.service.delivery.event_stream import EventStream
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.session.playback_clock import PlaybackClock

LATE_S = 0.1  # seconds that playback has to have waited for a warning
GRACE_S = 1.0  # seconds without a warning after another one, and after a jump


class Pace:
    """Lets the playback `clock` of one session wait for its frames, and warns when it has to.

    ``factor`` is the seconds of stream made a second between the last two calls of `measure`.
    """

    def __init__(self, clock: PlaybackClock, fps: Fraction, metrics: Metrics, events: EventStream) -> None:
        self.factor = 0.0
        self._clock = clock
        self._fps = fps
        self._metrics = metrics
        self._events = events
        self._waited = 0.0
        self._no_warning_until = 0.0
        self._jumped_until = 0.0
        self._measured = (time.monotonic(), 0)

    def made(self, frames: int) -> None:
        """Note that there are `frames` frames in all."""
        if time.monotonic() < self._jumped_until:
            return
        self._waited += self._clock.wait(float(frames / self._fps))
        if self._waited > LATE_S and time.monotonic() > self._no_warning_until:
            self._metrics.add("late_total")
            self._events.publish("warning", message="this machine is slow at the moment")
            self._waited, self._no_warning_until = 0.0, time.monotonic() + GRACE_S

    def forgive(self) -> None:
        """Playback has just jumped ahead: give generation a moment to follow, before playback waits for it."""
        self._jumped_until = time.monotonic() + GRACE_S

    def measure(self, frames: int) -> None:
        """Update ``factor``, when there are `frames` frames in all."""
        (before, counted), now = self._measured, time.monotonic()
        self.factor = float((frames - counted) / self._fps) / max(1e-3, now - before)
        self._measured = (now, frames)
