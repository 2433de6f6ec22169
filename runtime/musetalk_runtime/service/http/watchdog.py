"""Whether frames are made, told to the service manager, which starts the service again when they are not."""

import asyncio
import logging

from musetalk_runtime.service.http.systemd import notify
from musetalk_runtime.service.service import Service

LOOKS = 6  # in the time that the service manager waits: idle engines answer at every other
BEHIND = 1.0  # seconds that playback has waited for a session that is behind
log = logging.getLogger(__name__)


class Watchdog:
    """Looks at `service`. It is fed by work that was done, and never by time alone:

    - the engines of every bundle have made a batch since the last look; idle ones, which no session gives anything to
      do, are let hear a moment of silence instead, in their own thread, and have to answer; and
    - some session has made a frame since the last look, if any is behind its playback or does not begin.

    That the event loop runs is needed to look at all.
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
            await asyncio.sleep(seconds / LOOKS)
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
        running = self._service.running
        frames = {session.id: session.frames for session in running}
        made = any(frames[key] > self._frames.get(key, 0) for key in frames)
        starting = {session.id for session in running if not session.clock.running}
        late = [session for session in running if session.clock.running and session.ahead < -BEHIND]
        stuck = bool(late or starting & self._starting)
        self._frames, self._starting = frames, starting
        return made or not stuck
