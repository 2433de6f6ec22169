"""The front end: begins sessions where there is room, and passes requests on to the devices of their sessions."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from musetalk_runtime.fleet.device_client import Answer, Body, DeviceClient, DeviceLost
from musetalk_runtime.fleet.directory import DeviceAddress, Directory
from musetalk_runtime.fleet.front.autoscaling import Autoscaling
from musetalk_runtime.fleet.front.monitor import Monitor
from musetalk_runtime.fleet.front.rooms import Rooms
from musetalk_runtime.fleet.front.spread import Spread
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.fleet.session_id import SessionId
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError, unknown_session
from musetalk_runtime.service.security.signed_tokens import ANYONE
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.settings import Settings

LOST_AFTER_S = 5.0  # seconds without a report after which a device's sessions count as ended
BEGIN_AGAIN = {"Retry-After": "1"}
LINKS = ("stream", "whep", "hls", "events", "audio", "picture")  # of a device's answers

log = logging.getLogger(__name__)


class Front:
    """The front end of the devices of `directory`, which have `secret`.

    Avatars spread by way of `registry`. `spare` is how many more sessions are to fit than run: an autoscaler is told.

    It holds nothing that a restart would lose: which device a session is on is in the session's id. Open in an event
    loop by `start`, and close there.

    Attributes: ``rooms``, ``client``, ``monitor``, ``registry``, ``counts`` (of what happened, by name), ``settings``
    (the limits of uploads, as a device has them).
    """

    def __init__(
        self, directory: Directory, secret: bytes, registry: Registry | None = None, spare: int | None = None
    ) -> None:
        self.rooms = Rooms()
        self.registry = registry
        self._directory = directory
        self._autoscaling = None if spare is None else Autoscaling(directory, self.rooms, spare)
        self.settings = Settings()
        self.counts: Counter[str] = Counter()
        self._secret = secret
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Find the devices, and watch them from now on."""
        self.client = DeviceClient(self._secret)
        self.monitor = Monitor(self._directory, self.client, self.rooms)
        await self.monitor.refresh()
        work = [self.monitor.run()]
        if self.registry:
            work.append(Spread(self.registry, self._directory, self.rooms).run())
        if self._autoscaling:
            work.append(self._autoscaling.run())
        self._tasks += map(asyncio.create_task, work)

    async def close(self) -> None:
        """Watch them no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    async def begin(
        self,
        path: str,
        avatar: str,
        bundle: str | None,
        owner: Token | None,
        body: Callable[[], Body],
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        """Begin a session by a request to `path` of the device with the most room that takes it; gives its answer.

        `body` gives the body anew for each device that is asked. Raises ServiceError.
        """
        self._check_limit(owner)
        for name in self.rooms.fitting(avatar, bundle):
            if not self._has_room(name):  # another session came first
                continue
            device = self.monitor.devices[name]
            with self.rooms.reserve(name, owner.name if owner else ANYONE) as reservation:
                try:
                    answer = await self.client.ask(device, "POST", path, owner, body(), headers)
                    begun = answer.json() if answer.status == 201 else None
                except DeviceLost as error:
                    log.warning("device %s is lost: %s", name, error)
                    self.counts["lost"] += 1
                    self.rooms.lose(name)
                    continue
                if answer.status == 503:
                    self.counts["retried"] += 1
                    self.rooms.fill(name)
                    continue
                if begun is None:
                    raise answer.error()
                reservation.keep(time.monotonic())
                self.counts["begun"] += 1
                return self.session(device, begun)
        raise self._refusal(avatar, bundle)

    async def ask(
        self,
        key: SessionId,
        method: str,
        path: str,
        owner: Token | None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of a session's device to a request for `path`, which follows the session's own.

        Raises ServiceError: 410 where the device, or the service that ran the session, is gone.
        """
        device = self.device_of(key)
        try:
            return await self.client.ask(device, method, f"/v1/sessions/{key.key}{path}", owner, body, headers)
        except DeviceLost:
            if self.rooms.silent(key.device) > LOST_AFTER_S:
                raise gone(key) from None
            message = f"device {key.device} does not answer at the moment"
            raise ServiceError(503, "device_silent", message, BEGIN_AGAIN) from None

    def device_of(self, key: SessionId) -> DeviceAddress:
        """The device of a session; raises ServiceError, 410 where it or the session's service is gone."""
        device = self.monitor.devices.get(key.device)
        if device is None or key.device not in self.rooms:
            raise gone(key)
        status = self.rooms.up.get(key.device)
        if status and status.process != key.process:
            raise gone(key)
        return device

    def session(self, device: DeviceAddress, answer: dict[str, Any]) -> dict[str, Any]:
        """A device's answer about a session, as a client of the fleet has it. `answer` is changed."""
        key = SessionId(device.name, str(answer.get("id")))
        return {**linked(device, answer), "id": str(key), "device": device.name}

    @property
    def devices_wanted(self) -> int:
        """How many devices an autoscaler is asked for; 0 where it is asked for none."""
        return self._autoscaling.wanted if self._autoscaling else 0

    def _has_room(self, name: str) -> bool:
        return name in self.monitor.devices and name in self.rooms and self.rooms[name].free > 0

    def _check_limit(self, owner: Token | None) -> None:
        if owner and owner.sessions is not None and self.rooms.held_by(owner.name) >= owner.sessions:
            raise ServiceError(429, "too_many_sessions", f"this token has {owner.sessions} at once at most", RETRY_SOON)

    def _refusal(self, avatar: str, bundle: str | None) -> ServiceError:
        """Why no device takes a session."""
        if self.rooms.up and not self.rooms.has(avatar):
            return ServiceError(404, "unknown_avatar", f"no device has an avatar {avatar!r}")
        if self.rooms.up and not self.rooms.has(avatar, bundle):
            return ServiceError(404, "unknown_bundle", f"no device has avatar {avatar!r} with a bundle {bundle!r}")
        self.counts["refused"] += 1
        if self._autoscaling:
            self._autoscaling.refuse()
        return ServiceError(503, "no_capacity", "no device has room at the moment", RETRY_SOON)


def session_id(text: str) -> SessionId:
    """The id that `text` is; raises ServiceError."""
    key = SessionId.parse(text)
    if key is None:
        raise unknown_session()
    return key


def gone(key: SessionId) -> ServiceError:
    """The error for a session whose device, or the service that ran it, is gone."""
    message = f"the session ended with the service of device {key.device}: begin another one"
    return ServiceError(410, "device_lost", message, BEGIN_AGAIN)


def linked(device: DeviceAddress, answer: dict[str, Any]) -> dict[str, Any]:
    """`answer` with addresses that lead to the device."""
    return {
        name: device.link(value) if name in LINKS and isinstance(value, str) else value
        for name, value in answer.items()
    }
