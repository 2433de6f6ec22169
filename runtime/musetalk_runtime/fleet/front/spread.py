"""The spread of avatars: each is on as many devices as it is wanted on."""

import asyncio
import logging
import time

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.fleet.directory import Directory
from musetalk_runtime.fleet.front.rooms import Rooms
from musetalk_runtime.fleet.registry import Registry

INTERVAL_S = 5.0
ASK_AGAIN_S = 60.0  # seconds in which a device has to have taken an avatar

log = logging.getLogger(__name__)


class Spread:
    """Has devices take avatars of `registry`, the devices with the most room first.

    What is wanted is in the registry, and what there is in the devices' reports: so it holds nothing that matters, and
    a device that is gone is made up for.
    """

    def __init__(self, registry: Registry, directory: Directory, rooms: Rooms, interval: float = INTERVAL_S) -> None:
        self._registry, self._directory, self._rooms = registry, directory, rooms
        self._interval = interval
        self._asked: dict[tuple[str, str], float] = {}  # when a device was asked to take an avatar

    async def run(self) -> None:
        """See to it, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.spread()
            except (MuseTalkEdgeError, OSError) as error:
                log.warning("avatars are not spread: %s", one_line(error))

    async def spread(self) -> None:
        """Ask devices to take what is missing; raises MuseTalkEdgeError or OSError."""
        now = time.monotonic()
        self._asked = {key: at for key, at in self._asked.items() if now - at < ASK_AGAIN_S}
        for avatar in await asyncio.to_thread(self._registry.names, "avatar"):
            having = set(self._rooms.having(avatar))
            others = [name for name in self._rooms.up if name not in having]
            if not others or not await asyncio.to_thread(self._registry.current, "avatar", avatar):
                continue
            copies = await asyncio.to_thread(self._registry.copies, avatar)
            coming = sum((name, avatar) in self._asked for name in others)
            missing = len(others) if copies is None else copies - len(having) - coming
            free = [name for name in others if (name, avatar) not in self._asked]
            for name in sorted(free, key=lambda name: -self._rooms[name].free)[: max(0, missing)]:
                self._asked[name, avatar] = now
                await self._directory.take_avatar(name, avatar)
