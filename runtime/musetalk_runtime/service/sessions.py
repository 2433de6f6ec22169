"""The sessions of a service, from their beginning until nobody can ask for them any more."""

import asyncio
import time
from collections.abc import Callable

from musetalk_runtime.service.errors import RETRY_SOON, ServiceError, unknown_session
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.settings import Settings

ENDED_KEPT_S = 60.0  # seconds that a session which ended by itself can still be asked for
STOPPED_KEPT_S = 10.0  # seconds that a session which was stopped is kept, for viewers that have not seen its end
WANTED_IDLE_S = 30.0  # seconds that nobody has watched a session, after which it makes room for one that was refused


class Sessions:
    """The sessions, by their ids, and who watches them; `settings` gives the limits as they are now.

    For the event loop.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._sessions: dict[str, LiveSession] = {}
        self._wanted_at: dict[Token | None, float] = {}  # when a place was refused to whoever holds the token

    def add(self, session: LiveSession) -> None:
        """Keep a new session."""
        self._sessions[session.id] = session

    def get(self, key: str, ending: bool = False) -> LiveSession:
        """The session with id `key`, also if it was stopped just now if `ending`; raises ServiceError."""
        session = self._sessions.get(key)
        if session is None or (session.stopping and not ending):
            raise unknown_session()
        return session

    @property
    def running(self) -> list[LiveSession]:
        """Those that make frames, also those that are about to end."""
        return [session for session in self._sessions.values() if session.running]

    @property
    def viewers(self) -> int:
        """How many watch, of all sessions."""
        return sum(session.audience.viewers for session in self._sessions.values())

    def check_viewers(self) -> None:
        """Raise ServiceError where as many watch as may."""
        if self.viewers >= self._settings().viewers:
            message = f"{self.viewers} watch, that is all this service takes"
            raise ServiceError(503, "too_many_viewers", message, RETRY_SOON)

    def check_peers(self) -> None:
        """Raise ServiceError where as many watch, in all or by WebRTC, as may."""
        self.check_viewers()
        peers = sum(len(session.audience.peers) for session in self._sessions.values())
        if peers >= self._settings().peers:
            message = f"{peers} watch by WebRTC, that is all this service takes"
            raise ServiceError(503, "too_many_viewers", message, RETRY_SOON)

    def want_place(self, owner: Token | None) -> None:
        """Note that a session was refused for others that run: those of `owner`, or of anybody."""
        self._wanted_at[owner] = time.monotonic()

    def owned_by(self, token: Token) -> int:
        """How many run that `token` began."""
        return sum(session.owner is token for session in self.running)

    def stop(self) -> None:
        """End all."""
        for session in self.running:
            session.stop()

    async def wait_ended(self, until: float) -> bool:
        """Wait until all have ended, the threads `until` then by ``time.monotonic``; whether those have."""
        ended = True
        for session in list(self._sessions.values()):
            await session.audience.close_peers()
            ended &= await asyncio.to_thread(session.join, max(0.0, until - time.monotonic()))
            if session.push:
                await session.push.wait_ended()
        return ended

    def maintain(self) -> None:
        """Publish every session's buffer, end unused ones, and forget those that ended; to be called each second."""
        for session in list(self._sessions.values()):
            if session.running:
                session.maintain()
                self._end_unused(session)
            elif session.unused > (STOPPED_KEPT_S if session.stopping else ENDED_KEPT_S) and not session.audience.peers:
                del self._sessions[session.id]

    def _end_unused(self, session: LiveSession) -> None:
        refused_at = max(self._wanted_at.get(owner, -WANTED_IDLE_S) for owner in (None, session.owner))
        wanted = time.monotonic() - refused_at < WANTED_IDLE_S
        idle = self._settings().idle
        if session.unused > idle:
            session.events.publish("warning", message="nobody watched or spoke: the session ends")
            session.stop()
        elif wanted and session.audience.unwatched > min(idle, WANTED_IDLE_S):
            session.events.publish("warning", message="nobody watched, and another waits: the session ends")
            session.stop()
