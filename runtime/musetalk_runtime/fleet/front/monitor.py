"""The monitor: asks every device, each second, how it is."""

import asyncio
import logging
import time
from collections.abc import Mapping

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.fleet.device_client import DeviceClient, DeviceLost
from musetalk_runtime.fleet.directory import DeviceAddress, Directory
from musetalk_runtime.fleet.front.rooms import Rooms

INTERVAL_S = 1.0

log = logging.getLogger(__name__)


class Monitor:
    """Keeps `rooms` as the devices of `directory` report them. A device that does not answer is sent nothing more.

    A directory that fails changes nothing: the devices it last named are asked on.
    """

    def __init__(self, directory: Directory, client: DeviceClient, rooms: Rooms, interval: float = INTERVAL_S) -> None:
        self.devices: Mapping[str, DeviceAddress] = {}
        self._directory, self._client, self._rooms = directory, client, rooms
        self._interval = interval

    async def run(self) -> None:
        """Ask, for ever."""
        searching = asyncio.create_task(self._search())
        try:
            while True:
                await asyncio.gather(self._poll(), asyncio.sleep(self._interval))
        finally:
            searching.cancel()

    async def refresh(self) -> None:
        """Find the devices, and ask them once."""
        await self._find()
        await self._poll()

    async def _search(self) -> None:
        while True:
            await asyncio.gather(self._find(), asyncio.sleep(self._interval))

    async def _find(self) -> None:
        try:
            self.devices = await self._directory.devices()
        except (MuseTalkEdgeError, OSError) as error:
            log.warning("the devices cannot be listed: %s", one_line(error))
            return
        self._rooms.keep_only(self.devices)

    async def _poll(self) -> None:
        await asyncio.gather(*map(self._ask, list(self.devices.values())))

    async def _ask(self, device: DeviceAddress) -> None:
        asked_at = time.monotonic()
        try:
            status = await self._client.status(device)
        except DeviceLost as error:
            if device.name in self._rooms.up:
                log.warning("device %s is lost: %s", device.name, one_line(error))
            self._rooms.lose(device.name)
            return
        if device.name in self._rooms:
            self._rooms.report(device.name, status, asked_at)
