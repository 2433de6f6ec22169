"""All sessions of one process: who is let in, who is still there."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame_rate import parse_rate
from musetalk_runtime.service.catalog import Cast, Company
from musetalk_runtime.service.errors import EngineFailed, ServiceError, unknown_session
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.scheduling.admission import Admission, Admitted
from musetalk_runtime.service.scheduling.engine_worker import EngineWorker
from musetalk_runtime.service.scheduling.warm_up import warm_up
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.live_session import Broadcast
from musetalk_runtime.service.settings import Settings, check_lead
from musetalk_runtime.session import Session
from musetalk_runtime.session_hooks import SessionHooks

if TYPE_CHECKING:
    from musetalk_runtime.service.avatars.store import AvatarStore

LONE = "default"  # the name of a bundle that is given without one
SLOWEST = 10  # frames a second of a live session: below, fragments come too late
KEPT = 60.0  # seconds that a session which ended by itself can still be asked for
LINGER = 10.0  # seconds that one which was stopped is held, for those who have not seen its end
CLOSING = 8.0  # seconds for threads to end in
RETRY = {"Retry-After": "5"}
TIMED = 100  # frames of each stage that a session keeps the times of: they are counted in metrics
WORKERS = 4  # threads that read and decode uploads
UPLOADS = {"clip": 8, "avatar": 4}  # at once: a clip is soon over, and waits for no avatar

log = logging.getLogger(__name__)


class Service:
    """The sessions of `bundles`, by name or a lone one, for avatars by name.

    Methods are for the event loop, and only `tend` and `ended` wait; `measure` comes before all of it. Raises
    AvatarMismatch for an avatar that fits no bundle, InvalidArgument for a name that is not one.

    Attributes: ``company`` (bundles and avatars), ``admission`` (who fits), ``engines`` (the workers, by the names of
    their bundles), ``store`` (of avatars that are uploaded; None takes none), ``metrics``, ``workers`` (a small thread
    pool for files and codecs), ``draining`` (no new sessions), ``hung`` (a thread did not end).
    """

    def __init__(
        self, bundles: Bundle | Mapping[str, Bundle], avatars: Mapping[str, Avatar], settings: Settings
    ) -> None:
        self.company = Company({LONE: bundles} if isinstance(bundles, Bundle) else bundles, avatars)
        self.admission = Admission(self.company, settings.sessions)
        self.store: AvatarStore | None = None
        self.settings = settings
        self.metrics = Metrics()
        self.workers = ThreadPoolExecutor(WORKERS, "service")
        self.draining = False
        self.hung = False
        self.engines = {
            name: EngineWorker(bundle, Timings(self.metrics.stage, TIMED), self.metrics.batch)
            for name, bundle in self.company.bundles.items()
        }
        self._uploads: Counter[str] = Counter()
        self._alive_at = time.monotonic()
        self._broadcasts: dict[str, Broadcast] = {}

    def measure(self) -> None:
        """Load what sessions need, and find what they cost; raises what a session would."""
        for cast in self.company.casts():
            cost = warm_up(self.company.bundles[cast.bundle], self.company.avatars[cast.avatar])
            self.admission.costs[cast] = cost

    def remove_avatar(self, name: str) -> None:
        """Close an avatar that no session uses, and forget it."""
        for cast in [cast for cast in self.admission.costs if cast.avatar == name]:
            del self.admission.costs[cast]
        self.company.avatars.pop(name).close()

    def open(
        self,
        avatar: str,
        fps: str = "auto",
        lead: float | None = None,
        bundle: str | None = None,
        speech: bytes | None = None,
    ) -> Broadcast:
        """Begin a session, which says `speech` (as ``Feeder`` takes it) and ends, or is live without it.

        Raises ServiceError or InvalidArgument.
        """
        cast = self.company.find(avatar, bundle)
        engines, pack = self.company.bundles[cast.bundle], self.company.avatars[cast.avatar]
        lead = self.settings.lead if lead is None else lead
        check_lead(lead)
        wanted = None if fps == "auto" else parse_rate(fps, engines)
        if wanted is not None and wanted < SLOWEST:
            raise InvalidArgument(f"fps {fps} is out of range: expected {SLOWEST} or more")
        worker = self.engines[cast.bundle]
        rate = self._admit(cast, wanted)

        def start(broadcast: Broadcast) -> Session:
            timings = Timings(self.metrics.stage, TIMED)
            direction = SessionHooks(broadcast.feeder.mouth, lambda face, _: worker.renderer(face, broadcast), timings)
            return Session(engines, pack, broadcast.feeder, rate, direction)

        broadcast = Broadcast(start, cast, rate, lead, asyncio.get_running_loop(), self.metrics)
        if speech is not None:
            broadcast.feeder.push(speech)
            broadcast.feeder.complete()
        self._broadcasts[broadcast.id] = broadcast
        self.metrics.add("sessions_total")
        broadcast.start()
        return broadcast

    def get(self, key: str, ending: bool = False) -> Broadcast:
        """The session with id `key`, also if it was stopped just now if `ending`; raises ServiceError."""
        broadcast = self._broadcasts.get(key)
        if broadcast is None or (broadcast.stopping and not ending):
            raise unknown_session()
        return broadcast

    def close(self, key: str) -> None:
        """End a session and forget it; who watches gets what was made. Raises ServiceError."""
        self.get(key).stop()

    @contextmanager
    def upload(self, kind: Literal["clip", "avatar"]) -> Iterator[None]:
        """Hold one of the few uploads of its kind that may be under way at once; raises ServiceError."""
        if self._uploads[kind] >= UPLOADS[kind]:
            raise ServiceError(503, "too_many_uploads", f"{self._uploads[kind]} uploads are under way", RETRY)
        self._uploads[kind] += 1
        try:
            yield
        finally:
            self._uploads[kind] -= 1

    @property
    def running(self) -> list[Broadcast]:
        """The sessions that make frames, also those that are about to end."""
        return [broadcast for broadcast in self._broadcasts.values() if broadcast.running]

    @property
    def avatars(self) -> dict[str, Avatar]:
        """The avatars, by name."""
        return self.company.avatars

    @property
    def free(self) -> int:
        """How many more sessions fit now."""
        if self.draining or len(self.failed) == len(self.engines):
            return 0
        return self.admission.room(self._admitted)

    @property
    def failed(self) -> dict[str, str]:
        """What went wrong with engines that failed, by the names of their bundles."""
        return {name: worker.error for name, worker in self.engines.items() if worker.error is not None}

    @property
    def dead(self) -> bool:
        """Whether engines have failed, no session runs any more, and everybody has had time to be told."""
        if not self.failed or self.running:
            self._alive_at = time.monotonic()
        return time.monotonic() - self._alive_at > self.settings.grace

    @property
    def viewers(self) -> int:
        """Who watch, of all sessions."""
        return sum(broadcast.viewers for broadcast in self._broadcasts.values())

    def owned_by(self, token: Token) -> int:
        """How many sessions run that `token` began."""
        return sum(broadcast.owner is token for broadcast in self.running)

    def drain(self) -> None:
        """Refuse what is new and end what runs."""
        self.draining = True
        for broadcast in self.running:
            broadcast.stop()

    async def tend(self) -> None:
        """Tell of every session's buffer each second, end those that nobody uses, forget those that ended."""
        while True:
            try:
                self._tend()
            except Exception:  # a bug in one thing must not let all sessions live for ever
                log.exception("sessions were not looked after")
            await asyncio.sleep(1.0)

    async def ended(self) -> None:
        """Drain, and wait until every session's thread has ended; ``hung`` if one has not in time."""
        self.drain()
        if self.store:
            await self.store.close()
        until = time.monotonic() + CLOSING
        for broadcast in list(self._broadcasts.values()):
            if not await asyncio.to_thread(broadcast.join, max(0.0, until - time.monotonic())):
                self.hung = True
            if broadcast.push:
                await broadcast.push.ended()
        for worker in self.engines.values():
            if not await asyncio.to_thread(worker.end, max(0.0, until - time.monotonic())):
                self.hung = True
        self.workers.shutdown(wait=False, cancel_futures=True)

    @property
    def _admitted(self) -> list[Admitted]:
        return [(broadcast.fps, broadcast.cast) for broadcast in self.running]

    def _admit(self, cast: Cast, wanted: Fraction | None) -> Fraction:
        """The rate of a new session; raises ServiceError."""
        if self.draining:
            raise ServiceError(503, "shutting_down", "the service is about to end", RETRY)
        if (error := self.engines[cast.bundle].error) is not None:
            raise EngineFailed(error)
        rate = self.admission.rate(self._admitted, cast, wanted)
        if rate is None:
            self.metrics.add("refused_total")
            many = f"{len(self.running)} sessions run, this machine holds no more"
            raise ServiceError(503, "no_capacity", many if self.running else self.admission.reason(cast, wanted), RETRY)
        return rate

    def _tend(self) -> None:
        for name, worker in self.engines.items():
            if worker.check():
                for broadcast in self.running:
                    if broadcast.cast.bundle == name:
                        broadcast.abandon(EngineFailed(worker.error or ""))
        for broadcast in list(self._broadcasts.values()):
            if broadcast.running:
                self._look_after(broadcast)
            elif broadcast.unused > (LINGER if broadcast.stopping else KEPT):
                del self._broadcasts[broadcast.id]
        if self.store:
            self.store.rest()

    def _look_after(self, broadcast: Broadcast) -> None:
        broadcast.pace.measure(broadcast.frames)
        broadcast.notices.post("buffer", **broadcast.figures())
        if broadcast.viewers or broadcast.feeder.speaking:
            broadcast.touch()
        elif broadcast.unused > self.settings.idle:
            broadcast.notices.post("warning", message="nobody watched or spoke: the session ends")
            broadcast.stop()
