"""One session on the air: made once, in a thread of its own, for however many watch."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.service.catalog import Cast
from musetalk_runtime.service.delivery.fragments import Fragment, Splitter
from musetalk_runtime.service.delivery.window import Window
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.event_stream import Notice, Notices
from musetalk_runtime.service.session.pace import Pace
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.push import Push
from musetalk_runtime.service.session.speech_queue import Feeder
from musetalk_runtime.session import Session

State = Literal["starting", "idle", "speaking", "ended", "failed"]
log = logging.getLogger(__name__)

Open = Callable[["Broadcast"], Session]


class Broadcast:
    """Runs the session that `open_session` opens, from `start` until `stop` or an error, and tells what happens.

    Attributes: ``id`` (128 random bits and more), ``cast`` (bundle and avatar), ``fps``, ``feeder`` (what it hears),
    ``window`` (what it made), ``notices``, ``state`` (starting, idle, speaking, ended or failed), ``error`` (one line),
    ``pace``, ``viewers`` (who watch now), ``spoken_to`` (whether an audio socket is open), ``owner``
    (whose token began it), ``push`` (what sends it on).
    """

    def __init__(
        self,
        open_session: Open,
        cast: Cast,
        fps: Fraction,
        lead: float,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
    ) -> None:
        self.id = secrets.token_urlsafe(18)
        self.cast, self.fps, self.lead = cast, fps, lead
        self.clock = PlaybackClock()
        self.feeder = Feeder(self.clock, lead, idle_lead(fps))
        self.window = Window(loop)
        self.notices = Notices(loop)
        self.pace = Pace(self.clock, fps, metrics, self.notices)
        self.state: State = "starting"
        self.error: str | None = None
        self.viewers = 0
        self.spoken_to = False  # by an audio socket
        self.owner: Token | None = None
        self.push: Push | None = None
        self._open = open_session
        self._metrics = metrics
        self._session: Session | None = None
        self._counted = 0
        self._began = time.monotonic()
        self._used_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broadcast", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._log("begins")

    def stop(self) -> None:
        """End soon, with a whole file; returns at once. Safe from any thread."""
        self._stopping.set()
        self.feeder.interrupt()
        if self._session:
            self._session.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self, error: MuseTalkEdgeError) -> None:
        """Fail, although the thread may never come back from where it is."""
        self.stop()
        self._fail(error)

    def hush(self) -> float:
        """Barge-in: drop what is queued or under way. Gives the stream time from which the mouth is closed."""
        self.pace.forgive()
        made = float(self.frames / self.fps)
        at, end = self.feeder.cut(made)
        if self._session:
            self._session.hush(end)
        self._metrics.add("dropped_frames_total", max(0, int((end - made) * self.fps)))
        self.notices.post("interrupted", at=round(at, 3))
        return at

    def touch(self) -> None:
        """Note that somebody uses it."""
        self._used_at = time.monotonic()

    def spend(self, count: int) -> bool:
        """Whether its owner may upload `count` bytes more; they are counted."""
        return self.owner is None or self.owner.uploads.spend(count)

    @property
    def unused(self) -> float:
        """Seconds since somebody used it, or since it ended."""
        return time.monotonic() - self._used_at

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def running(self) -> bool:
        """Whether it still makes frames."""
        return self.state not in ("ended", "failed")

    @property
    def frames(self) -> int:
        """Frames generated."""
        return self._session.frames_made if self._session else 0

    @property
    def waiting(self) -> int:
        """Frames handed to the engines, finished or not, that are not in the stream yet."""
        return self._session.waiting if self._session else 0

    def due(self, index: int) -> float:
        """When frame `index` is to be shown, by ``time.monotonic``. See ``Timetable``."""
        return time.monotonic() + float(index / self.fps) - self.clock.now()

    def limit(self, index: int) -> float:
        """How far the mouth may open in frame `index`. See ``Timetable``."""
        return self.feeder.mouth(float(index / self.fps))

    @property
    def ahead(self) -> float:
        """Seconds that generation is ahead of playback."""
        return float(self.frames / self.fps) - self.clock.now()

    def snapshot(self) -> Notice:
        """Its state now."""
        error = {"error": self.error} if self.error else {}
        return Notice("state", {"state": self.state, "at": round(float(self.frames / self.fps), 3), **error})

    def figures(self) -> dict[str, Any]:
        """Its buffer now, in seconds, and who watch."""
        seconds = {"generated": float(self.frames / self.fps), "ahead": self.ahead, "queued": self.feeder.queued}
        return {**{name: round(value, 2) for name, value in seconds.items()}, "viewers": self.viewers}

    def _run(self) -> None:
        try:
            with self._open(self) as session:
                self._session = session
                if not self._stopping.is_set():
                    self._stream(session)
        except Exception as error:
            self._fail(error)
        else:
            self._finish("ended")

    def _stream(self, session: Session) -> None:
        splitter = Splitter()
        for data in session.stream():
            begun = splitter.init is not None
            fragments = splitter.feed(data)
            if splitter.init is not None and not begun:
                self.window.begin(splitter.init)
            for fragment in fragments:
                self._publish(fragment)
        if splitter.init is not None:
            splitter.finish()

    def _publish(self, fragment: Fragment) -> None:
        self.window.append(fragment)
        if not self.clock.running:
            self.clock.start()
            self._metrics.first_fragment(time.monotonic() - self._began)
        self._count()
        self._move("speaking" if self.feeder.speaking else "idle")
        self.pace.made(self.frames)

    def _count(self) -> None:
        frames = self.frames
        self._metrics.add("frames_total", frames - self._counted)
        self._counted = frames

    def _move(self, state: State) -> None:
        if state != self.state:
            self.state = state
            notice = self.snapshot()
            self.notices.post(notice.name, **notice.content)

    def _log(self, what: str) -> None:
        """For the log, which gets no more of the id than tells sessions apart: who has all of it can watch."""
        known = {"session": self.id[:6], "avatar": self.cast.avatar, "frames": self.frames}
        log.info("session %s", what, extra=known)

    def _fail(self, error: Exception) -> None:
        if not self.running:  # it was abandoned, and its thread came back after all
            return
        known = isinstance(error, MuseTalkEdgeError)
        log.error("session failed: %s", error, exc_info=None if known else error)
        self.error = one_line(error) if known else f"the session failed: {type(error).__name__}"
        self._metrics.add("errors_total")
        self._finish("failed")

    def _finish(self, state: State) -> None:
        if not self.running:
            return
        self._count()
        self.touch()
        self._move(state)
        self.notices.end()
        self.window.end(self.error)
        self._log(state)


def idle_lead(fps: Fraction) -> float:
    """Seconds of silence to hand out ahead of playback: what the chain holds back, and a little for the network.

    It holds back 120 ms of sound, up to three frames in the encoder and a fragment of two.
    """
    return 0.3 + float(5 / fps)
