"""Hints for an autoscaler: how many devices are wanted."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.fleet.directory import Directory
from musetalk_runtime.fleet.front.rooms import Rooms

INTERVAL_S = 5.0
REFUSED_FOR_S = 30.0  # seconds for which a session that was refused counts as wanted
MAX_REFUSED = 10_000

log = logging.getLogger(__name__)


class Autoscaling:
    """Counts the devices that are wanted for the sessions that run, those refused of late, and `spare` more.

    A device that is still to come is taken to hold as many as the others do on average.
    """

    def __init__(
        self, directory: Directory, rooms: Rooms, spare: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._rooms, self._spare = directory, rooms, spare
        self._now = now
        self._refused: deque[float] = deque(maxlen=MAX_REFUSED)

    def refuse(self) -> None:
        """Count a session that no device had room for."""
        self._refused.append(self._now())

    @property
    def wanted(self) -> int:
        """How many devices are wanted; none while none is known, for it is not known then what one holds."""
        up = self._rooms.up
        while self._refused and self._now() - self._refused[0] > REFUSED_FOR_S:
            self._refused.popleft()
        holds = sum(status.sessions + status.free for status in up.values())
        if not holds:
            return 0
        sessions = sum(status.sessions for status in up.values()) + len(self._refused) + self._spare
        return math.ceil(sessions * len(up) / holds)

    async def run(self) -> None:
        """Tell the autoscaler, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._directory.ask_for(self.wanted)
            except (MuseTalkEdgeError, OSError) as error:
                log.warning("the autoscaler was not told: %s", one_line(error))
