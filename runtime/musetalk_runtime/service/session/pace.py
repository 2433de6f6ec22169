"""A measure of whether generation keeps up with playback, and the share of frames that is made so that it does."""

import time
from fractions import Fraction

from musetalk_runtime.service.delivery.event_stream import EventStream
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.session.playback_clock import PlaybackClock

LATE_S = 0.1  # seconds that playback has to have waited for a warning
GRACE_S = 1.0  # seconds without a warning after another one, and after a jump
SHARES = (Fraction(1), Fraction(4, 5), Fraction(3, 5), Fraction(2, 5))  # of the frames: 25, 20, 15, 10 a second
MIN_FPS = 10  # of a live session: below, fragments come too late
LATE_SECONDS = 3  # seconds one after the other in which playback waited, until fewer frames are made
STEADY_SECONDS = (30, 600)  # seconds of speech without a wait until more are made: at first, and at most


class Pace:
    """Lets the playback `clock` of one session wait for its frames, and warns when it has to.

    ``factor`` is the seconds of stream made a second between the last two calls of `measure`. ``share`` is how many of
    the frames are to be made, the others repeating the one before: fewer while playback keeps waiting, and one more
    step after a while without, which is longer each time that was too early. Frames may come ``slack`` seconds
    late before the clock waits: viewers by WebRTC make up for that by themselves.
    """

    def __init__(self, clock: PlaybackClock, fps: Fraction, metrics: Metrics, events: EventStream) -> None:
        self.factor = 0.0
        self.share = SHARES[0]
        self._clock = clock
        self.slack = 0.0
        self._fps = fps
        self._metrics = metrics
        self._events = events
        self._waited = 0.0
        self._no_warning_until = 0.0
        self._jumped_until = 0.0
        self._measured = (time.monotonic(), 0)
        self._late_s = 0.0  # that playback has waited since the last call of `measure`
        self._late = self._steady = 0  # seconds
        self._patience = STEADY_SECONDS[0]

    def made(self, frames: int) -> None:
        """Note that there are `frames` frames in all."""
        if time.monotonic() < self._jumped_until:
            return
        waited = self._clock.wait(float(frames / self._fps) + self.slack)
        self._waited += waited
        self._late_s += waited
        if self._waited > LATE_S and time.monotonic() > self._no_warning_until:
            self._metrics.add("late_total")
            self._events.publish("warning", message="this machine is slow at the moment")
            self._waited, self._no_warning_until = 0.0, time.monotonic() + GRACE_S

    def forgive(self) -> None:
        """Playback has just jumped ahead: give generation a moment to follow, before playback waits for it."""
        self._jumped_until = time.monotonic() + GRACE_S

    def measure(self, frames: int, speaking: bool) -> None:
        """Update ``factor`` and ``share``, when there are `frames` frames in all; to be called each second."""
        (before, counted), now = self._measured, time.monotonic()
        self.factor = float((frames - counted) / self._fps) / max(1e-3, now - before)
        self._measured = (now, frames)
        late, self._late_s = self._late_s > LATE_S, 0.0
        self._late = self._late + 1 if late else 0
        self._steady = 0 if late else self._steady + speaking
        if self._late >= LATE_SECONDS:
            self._step(+1)
        elif self._steady >= self._patience:
            self._step(-1)

    def _step(self, step: int) -> None:
        """Take the next lower ``share`` (+1), or the next higher one (-1), if there is one."""
        self._late = self._steady = 0
        steps = [share for share in SHARES if share == 1 or self._fps * share >= MIN_FPS]
        place = steps.index(self.share) + step
        if not 0 <= place < len(steps):
            return
        if step > 0 and self.share < 1:
            self._patience = min(2 * self._patience, STEADY_SECONDS[1])
        self.share = steps[place]
        self._events.publish("rate", fps=float(self._fps * self.share))
