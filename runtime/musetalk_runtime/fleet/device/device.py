"""A device: one service, its bundles and its avatars."""

import asyncio
import logging
import os
from pathlib import Path

from musetalk_runtime.core.errors import MachineError, MuseTalkEdgeError, one_line
from musetalk_runtime.fleet.device.faces import Faces
from musetalk_runtime.fleet.device.service_process import ServiceProcess
from musetalk_runtime.fleet.device.settings import DeviceSettings
from musetalk_runtime.fleet.device_client import DeviceClient, DeviceLost
from musetalk_runtime.fleet.directory import DeviceAddress
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.service.security.signed_tokens import device_key, read_secret
from musetalk_runtime.storage.output_file import write_output

WATCH_INTERVAL_S = 0.5
RESTART_WAIT_S = 1.0  # seconds before what failed is begun anew
READY_TIMEOUT_S = 900.0  # seconds in which a service has to answer: engines may have to be certified first
STARTS = 2  # of a service with a new bundle: the first may end as it rolls the bundle back
DRAINED, KEY = "drained", "token.key"  # files in the state

log = logging.getLogger(__name__)


class Device:
    """The device of `settings`. Make it in an event loop, use it there, and close it: its service runs on."""

    def __init__(self, settings: DeviceSettings) -> None:
        self._settings = settings
        self._state = settings.state
        self._state.mkdir(parents=True, exist_ok=True)
        self._faces = Faces(self._state, Registry(settings.registry) if settings.registry else None)
        self._process = ServiceProcess(self._state)
        self._secret = read_secret(settings.secret)
        self._changing = asyncio.Lock()
        self._service = DeviceClient(self._secret)

    @property
    def address(self) -> DeviceAddress:
        """Where its service is."""
        return self._settings.address

    @property
    def entries(self) -> list[str]:
        """The bundles of the registry that it serves."""
        return [entry for _, entry in self._settings.bundles]

    @property
    def drained(self) -> bool:
        """Whether it is to let no new sessions in."""
        return (self._state / DRAINED).exists()

    async def run(self) -> None:
        """Serve until the service ends; raises MachineError then, and what else goes wrong."""
        async with self._changing:
            if not self._process.alive:
                await asyncio.to_thread(self._faces.renew, self.entries)
            await self._start()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if not self._process.alive and not self._changing.locked():
                raise MachineError(f"the service of device {self._settings.name} has ended")
            await self._settle()

    async def close(self) -> None:
        """Close its connections. Twice is fine."""
        await self._service.close()

    async def drain(self) -> None:
        """Let no new sessions in, also after a restart. Those that run go on."""
        (self._state / DRAINED).touch()
        await self._settle()

    async def reopen(self) -> None:
        """Let new sessions in again."""
        (self._state / DRAINED).unlink(missing_ok=True)
        await self._settle()

    async def sessions(self) -> int:
        """How many sessions run: none where the service does not answer, as it then has none."""
        try:
            return (await self._service.status(self.address)).sessions
        except DeviceLost:
            if self._process.alive:
                raise MachineError(f"the service of device {self._settings.name} does not answer") from None
            return 0

    async def stop(self) -> None:
        """End the service, and with it its sessions."""
        await asyncio.to_thread(self._process.stop)

    async def take_avatar(self, name: str) -> None:
        """Take an avatar from the registry, and serve it. Nothing happens where there is one of its name."""
        async with self._changing:
            if await asyncio.to_thread(self._faces.take_avatar, name):
                await self._service.adopt(self.address, name)

    async def update(self, entry: str, version: str) -> None:
        """Try out a version of a bundle, and serve it: the service starts anew, and its sessions end.

        Raises MuseTalkEdgeError or OSError, and serves the version before then.
        """
        async with self._changing:
            await asyncio.to_thread(self._faces.take_bundle, entry, version, log.info)
            await self.stop()
            for _ in range(STARTS):
                await self._start()
                if await self._ready():
                    break
            if self._faces.version(entry) != version:
                raise MachineError(f"device {self._settings.name} does not start with the new {entry}: rolled back")
            if not self._process.alive:
                raise MachineError(f"device {self._settings.name} does not start with the new {entry}")

    async def _start(self) -> None:
        key = self._state / KEY
        if not key.exists() or key.read_bytes() != device_key(self._secret, self._settings.name):
            write_output(key, device_key(self._secret, self._settings.name).decode(), 0o600)
        await asyncio.to_thread(self._process.start, self._arguments(key))

    def _arguments(self, key: Path) -> list[str]:
        settings = self._settings
        bundles = [f"{name}={self._faces.bundle(entry)}" for name, entry in settings.bundles]
        return [
            *("--host", settings.host, "--port", str(settings.port), "--root-path", settings.address.root_path),
            *("--token-key", str(key)),
            *(word for bundle in bundles for word in ("--bundle", bundle)),
            *(("--avatars", str(self._faces.avatars)) if settings.registry else ()),
            *settings.options,
        ]

    async def _ready(self) -> bool:
        """Whether the service answers, once it does, has ended or takes too long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + READY_TIMEOUT_S
        while self._process.alive and loop.time() < until:
            try:
                await self._service.status(self.address)
            except DeviceLost:
                await asyncio.sleep(WATCH_INTERVAL_S)
            else:
                return True
        return False

    async def _settle(self) -> None:
        """Have the service admit what it is to, and the registry what was uploaded, as far as they answer now."""
        try:
            status = await self._service.status(self.address)
            if status.admits == self.drained:
                await self._service.admit(self.address, not self.drained)
            await asyncio.to_thread(self._faces.publish_uploads)
        except (DeviceLost, MuseTalkEdgeError, OSError) as error:
            log.debug("device %s: %s", self._settings.name, one_line(error))


async def run_until_failed(device: Device) -> None:
    """Run `device` until something fails; then end this process, for Ray to start another."""
    try:
        await device.run()
    except Exception as error:
        log.warning("device %s starts anew: %s", device.address.name, one_line(error))
        await asyncio.sleep(RESTART_WAIT_S)
    os._exit(1)
