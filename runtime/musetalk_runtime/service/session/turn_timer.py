"""The latency of a session's turns: from speech to the mouth that says it, from an interruption to a closed one."""

import threading
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.activity import HOLD_S, THRESHOLD
from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.core.model import SAMPLE_RATE, STEP
from musetalk_runtime.service.delivery.event_stream import EventStream
from musetalk_runtime.service.metrics import Metrics

QUIET_S = 0.6  # seconds of silence after which speech is a new turn
LIVE_S = 0.1  # seconds of a piece that may have come at once although it is spoken live
BLOCK_STEPS = 50  # steps of a piece that are looked at in one go
MAX_WAITING = 16  # turns whose frames have not come

Turn = Literal["speech", "interruption"]


class TurnTimer:
    """Measures turns, for `metrics` and as events ``turn``: ``what``, ``at`` (stream time) and ``seconds``.

    Speech is timed from its first sample that is no silence to the frame at that time of the stream; an interruption to
    the first frame with a closed mouth. The silence that a clip begins with does not count. Safe from any thread.
    """

    def __init__(self, metrics: Metrics, events: EventStream, now: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._events, self._now = metrics, events, now
        self._waiting: list[tuple[Turn, float, float]] = []  # what, its stream time, and when it began
        self._spoken = -QUIET_S  # the stream time up to which there was speech
        self._lock = threading.Lock()

    def hear(self, piece: SpeechPiece, at: float) -> None:
        """Note that `piece` has come, which is said at the second `at` of the stream."""
        steps = piece.speech[: len(piece.speech) // STEP * STEP].reshape(-1, STEP)
        before, after = _quiet_steps(steps), _quiet_steps(steps[::-1])
        if before == len(steps):
            return
        first, last = (step * STEP / SAMPLE_RATE for step in (before, len(steps) - 1 - after))
        with self._lock:
            if at + first - self._spoken >= QUIET_S:
                self._begin("speech", at + first, first if first > LIVE_S else 0.0)
            self._spoken = at + last

    def speaks(self, seconds: float) -> bool:
        """Whether somebody speaks at `seconds` of the stream or later, or has just done so."""
        return seconds < self._spoken + HOLD_S

    def interrupt(self, at: float) -> None:
        """Note an interruption, after which the mouth is closed at the second `at` of the stream."""
        with self._lock:
            self._waiting.clear()
            self._spoken = -QUIET_S
            self._begin("interruption", at, 0.0)

    def made(self, seconds: float, early: float = 0.0) -> None:
        """Note that the frame at `seconds` of the stream is out, or will be in `early` seconds."""
        if not self._waiting:
            return
        with self._lock:
            done = [turn for turn in self._waiting if turn[1] <= seconds]
            self._waiting = [turn for turn in self._waiting if turn[1] > seconds]
        for what, at, began in done:
            latency = max(0.0, self._now() + early - began)
            self._metrics.turn(what, latency)
            self._events.publish("turn", what=what, at=round(at, 3), seconds=round(latency, 3))

    def _begin(self, what: Turn, at: float, later: float) -> None:
        self._waiting = [*self._waiting[-MAX_WAITING:], (what, at, self._now() + later)]


def _quiet_steps(steps: npt.NDArray[np.int16]) -> int:
    """How many of `steps`, int16 ``[n, STEP]``, are silence before the first that is not; no more are looked at."""
    for begin in range(0, len(steps), BLOCK_STEPS):
        power = np.mean(np.square(steps[begin : begin + BLOCK_STEPS] / np.float32(32768)), axis=1)
        if len(loud := np.flatnonzero(power > THRESHOLD)):
            return begin + int(loud[0])
    return len(steps)
