"""The watchdog: it tells the service manager that frames are made, which restarts the service when they are not."""

import asyncio
import logging

from musetalk_runtime.service.http.systemd import notify
from musetalk_runtime.service.service import Service

CHECKS = 6  # in the time that the service manager waits: idle engines answer at every other
BEHIND_S = 1.0  # seconds that playback has waited for a session that counts as behind
log = logging.getLogger(__name__)


class Watchdog:
    """The watchdog of `service`. It is fed by work that was done, and never by time alone:

    - the engines of every bundle have made a batch since the last check; idle ones encode a moment of silence instead,
      in their own thread; and
    - some session has made a frame since the last check, if any is behind its playback or does not begin.

    The check itself needs a running event loop.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._finished: dict[str, int] = {}
        self._frames: dict[str, int] = {}
        self._starting: set[str] = set()

    async def run(self, seconds: float) -> None:
        """Feed the watchdog that waits for `seconds`, for ever."""
        fed = True
        while True:
            await asyncio.sleep(seconds / CHECKS)
            alive = self.alive()
            if alive:
                notify("WATCHDOG=1")
            elif not fed:
                log.warning("no frames: the watchdog was not fed")
            fed = alive or not fed

    def alive(self) -> bool:
        """Whether work was done since this was asked last."""
        engines = [self._engine_alive(name) for name in self._service.engines]
        return self._sessions_alive() and all(engines)

    def _engine_alive(self, name: str) -> bool:
        worker = self._service.engines[name]
        before, self._finished[name] = self._finished.get(name), worker.finished
        if worker.finished != before:
            return True
        worker.probe()
        return False

    def _sessions_alive(self) -> bool:
        running = self._service.sessions.running
        frames = {session.id: session.frames for session in running}
        made = any(frames[key] > self._frames.get(key, 0) for key in frames)
        starting = {session.id for session in running if not session.clock.running}
        late = [session for session in running if session.clock.running and session.ahead < -BEHIND_S]
        stuck = bool(late or starting & self._starting)
        self._frames, self._starting = frames, starting
        return made or not stuck
