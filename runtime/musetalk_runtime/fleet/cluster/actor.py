"""The actor of a device, which Ray keeps on the device's node."""

import asyncio
import time
from typing import Any

import ray

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.fleet.cluster.environment import DEVICE_RESOURCE, NAMESPACE, own_resource
from musetalk_runtime.fleet.device.device import Device, run_until_failed
from musetalk_runtime.fleet.device.settings import DeviceSettings
from musetalk_runtime.fleet.directory import DeviceAddress

PREFIX = "device:"  # of the names of actors
LOST_NODE_S = 60.0  # seconds within which Ray notices that a machine is gone
POLL_S = 0.5


class DeviceActor:
    """A Device, in a process of Ray's; its methods are those of Device."""

    async def __init__(self, settings: DeviceSettings) -> None:  # type: ignore[misc]
        self._device = Device(settings)
        self._running = asyncio.create_task(run_until_failed(self._device))

    async def address(self) -> DeviceAddress:
        return self._device.address

    async def entries(self) -> list[str]:
        return self._device.entries

    async def drain(self) -> None:
        await self._device.drain()

    async def reopen(self) -> None:
        await self._device.reopen()

    async def take_avatar(self, name: str) -> None:
        await self._device.take_avatar(name)

    async def sessions(self) -> int:
        return await self._device.sessions()

    async def update(self, entry: str, version: str) -> None:
        await self._device.update(entry, version)

    async def stop(self) -> None:
        self._running.cancel()
        await self._device.stop()
        await self._device.close()


def check_name(device: str) -> None:
    """Wait until the nodes that `device` had before are known to be gone; raises InvalidArgument where one stays."""
    until = time.monotonic() + LOST_NODE_S
    while len(nodes := _nodes(device)) > 1:
        if time.monotonic() > until:
            raise InvalidArgument(f"{len(nodes)} devices of the cluster are called {device!r}: give each its own name")
        time.sleep(POLL_S)


def _nodes(device: str) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"] and own_resource(device) in node["Resources"]]


def start_actor(settings: DeviceSettings) -> Any:
    """The actor of a device, anew with `settings`: one that is there makes way, and leaves its service running."""
    name = actor_name(settings.name)
    remove_actor(settings.name)
    options: Any = ray.remote(DeviceActor)
    return options.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=-1,
        num_cpus=0,
        resources={DEVICE_RESOURCE: 1, own_resource(settings.name): 1},
    ).remote(settings)


def remove_actor(device: str) -> None:
    """End a device's actor, if there is one; its service runs on."""
    try:
        ray.kill(find_actor(device))
    except ValueError:
        return


def find_actor(device: str) -> Any:
    """A device's actor; raises ValueError where there is none."""
    return ray.get_actor(actor_name(device), namespace=NAMESPACE)


def actor_name(device: str) -> str:
    """The name by which Ray knows the actor of a device."""
    return f"{PREFIX}{device}"


def device_names() -> list[str]:
    """The devices that have an actor, whether that is up or about to be started anew."""
    listed = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in listed if actor["namespace"] == NAMESPACE]
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
