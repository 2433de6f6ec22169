"""The directory of the devices on a Ray cluster."""

import asyncio
from collections.abc import Mapping

from ray.exceptions import RayError

from musetalk_runtime.core.errors import MachineError, one_line
from musetalk_runtime.fleet.cluster.actor import device_names, find_actor
from musetalk_runtime.fleet.cluster.environment import DEVICE_RESOURCE
from musetalk_runtime.fleet.directory import DeviceAddress

TIMEOUT_S = 2.0  # for an actor's answer
LIST_TIMEOUT_S = 5.0


class RayDirectory:
    """The devices of the cluster that this process is in. A device that does not answer is where it was before."""

    def __init__(self) -> None:
        self._known: dict[str, DeviceAddress] = {}
        self._wanted = 0

    async def devices(self) -> Mapping[str, DeviceAddress]:
        """The devices that have an actor; raises MachineError where Ray does not answer."""
        try:
            names = await asyncio.wait_for(asyncio.to_thread(device_names), LIST_TIMEOUT_S)
        except (RayError, asyncio.TimeoutError, RuntimeError) as error:
            raise MachineError(f"Ray does not answer: {one_line(error)}") from None
        addresses = await asyncio.gather(*map(self._address, names))
        self._known = {address.name: address for address in addresses if address}
        return self._known

    async def take_avatar(self, device: str, avatar: str) -> None:
        """Have a device take an avatar; returns at once."""
        try:
            find_actor(device).take_avatar.remote(avatar)
        except (RayError, ValueError) as error:
            raise MachineError(f"device {device} does not answer: {one_line(error)}") from None

    async def ask_for(self, devices: int) -> None:
        """Tell Ray's autoscaler how many devices are wanted in all."""
        from ray.autoscaler.sdk import request_resources

        if devices != self._wanted:
            await asyncio.to_thread(request_resources, bundles=[{DEVICE_RESOURCE: 1}] * devices)
            self._wanted = devices

    async def _address(self, name: str) -> DeviceAddress | None:
        try:
            answer = find_actor(name).address.remote()
            found: DeviceAddress = await asyncio.wait_for(asyncio.wrap_future(answer.future()), TIMEOUT_S)
        except (RayError, ValueError, asyncio.TimeoutError):
            return self._known.get(name)
        return found
