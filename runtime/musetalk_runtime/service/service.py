"""All sessions of one process: who is let in, who is still there."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.errors import InvalidArgument
from musetalk_runtime.rate import HEADROOM, auto_rate, generation_rate, parse_rate
from musetalk_runtime.service.broadcast import Broadcast
from musetalk_runtime.service.errors import ServiceError, unknown_session
from musetalk_runtime.service.feeder import Feeder
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.settings import Settings, check_lead
from musetalk_runtime.service.tokens import Token
from musetalk_runtime.session import Session

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SLOWEST = 10  # frames a second of a live session: below, fragments come too late
KEPT = 60.0  # seconds that a session which ended by itself can still be asked for
LINGER = 10.0  # seconds that one which was stopped is held, for those who have not seen its end
RETRY = {"Retry-After": "5"}
WORKERS = 4  # threads that read and decode uploads
UPLOADS = 8


class Service:
    """The sessions on `bundle`, for avatars by name. Methods are for the event loop, and only `tend` and `ended` wait.

    Raises AvatarMismatch for an avatar that does not fit the bundle, InvalidArgument for a name that is not one.

    Attributes: ``metrics``, ``workers`` (a small thread pool for files and codecs), ``draining`` (no new
    sessions), ``fps`` (of a session that asks for none), ``sessions`` (how many of those fit).
    """

    def __init__(self, bundle: Bundle, avatars: Mapping[str, Avatar], settings: Settings) -> None:
        for name, avatar in avatars.items():
            if not NAME.fullmatch(name):
                raise InvalidArgument(f"avatar name {name!r}: expected letters, digits, - and _, 64 at most")
            avatar.check(bundle.spec)
        self.avatars = dict(avatars)
        self.settings = settings
        self.metrics = Metrics()
        self.workers = ThreadPoolExecutor(WORKERS, "service")
        self.draining = False
        self.fps = max(Fraction(SLOWEST), auto_rate(bundle))
        self.sessions = settings.sessions or max(1, int(generation_rate(bundle) / float(self.fps) / HEADROOM))
        self._uploads = 0
        self._budget = self.sessions * self.fps  # frames a second, of all sessions
        self._bundle = bundle
        self._broadcasts: dict[str, Broadcast] = {}

    def open(self, avatar: str, fps: str = "auto", lead: float | None = None) -> Broadcast:
        """Begin a session; raises ServiceError or InvalidArgument."""
        if avatar not in self.avatars:
            raise ServiceError(404, "unknown_avatar", f"no avatar {avatar!r}: expected one of {sorted(self.avatars)}")
        rate = self.fps if fps == "auto" else parse_rate(fps, self._bundle)
        if not SLOWEST <= rate <= self._budget:
            raise InvalidArgument(f"fps {fps} is out of range [{SLOWEST}, {float(self._budget):g}]")
        lead = self.settings.lead if lead is None else lead
        check_lead(lead)
        self._admit(rate)
        pack, loop = self.avatars[avatar], asyncio.get_running_loop()

        def start(feeder: Feeder) -> Session:
            return Session(self._bundle, pack, feeder, rate, feeder.mouth)

        broadcast = Broadcast(start, avatar, rate, lead, loop, self.metrics)
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
    def upload(self) -> Iterator[None]:
        """Hold one of the few uploads that may be in memory at once; raises ServiceError."""
        if self._uploads >= UPLOADS:
            raise ServiceError(503, "too_many_uploads", f"{self._uploads} uploads are under way", RETRY)
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    @property
    def running(self) -> list[Broadcast]:
        """The sessions that make frames, also those that are about to end."""
        return [broadcast for broadcast in self._broadcasts.values() if broadcast.running]

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
            for broadcast in list(self._broadcasts.values()):
                if broadcast.running:
                    self._look_after(broadcast)
                elif broadcast.unused > (LINGER if broadcast.stopping else KEPT):
                    del self._broadcasts[broadcast.id]
            await asyncio.sleep(1.0)

    async def ended(self) -> None:
        """Drain, and wait until every session's thread has ended."""
        self.drain()
        for broadcast in list(self._broadcasts.values()):
            await asyncio.to_thread(broadcast.join)
            if broadcast.push:
                await broadcast.push.ended()
        self.workers.shutdown(wait=False, cancel_futures=True)

    def _admit(self, rate: Fraction) -> None:
        if self.draining:
            raise ServiceError(503, "shutting_down", "the service is about to end", RETRY)
        if rate + sum(broadcast.fps for broadcast in self.running) > self._budget:
            self.metrics.add("refused_total")
            count = len(self.running)
            raise ServiceError(503, "no_capacity", f"{count} sessions run, this machine holds no more", RETRY)

    def _look_after(self, broadcast: Broadcast) -> None:
        broadcast.pace.measure(broadcast.frames)
        broadcast.notices.post("buffer", **broadcast.figures())
        if broadcast.viewers or broadcast.feeder.speaking:
            broadcast.touch()
        elif broadcast.unused > self.settings.idle:
            broadcast.notices.post("warning", message="nobody watched or spoke: the session ends")
            broadcast.stop()
