"""A device without Ray: its service, its bundles and its avatars."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.fleet import SECRET
from helpers.folders import edited, renewed
from helpers.service_client import Client, HeldPort
from musetalk_runtime.core.errors import InvalidArgument, MachineError, MuseTalkEdgeError
from musetalk_runtime.fleet.device.device import Device
from musetalk_runtime.fleet.device.faces import Faces
from musetalk_runtime.fleet.device.service_process import ServiceProcess
from musetalk_runtime.fleet.device.settings import DeviceSettings
from musetalk_runtime.fleet.device_client import DeviceClient, DeviceLost
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.fleet.rolling_update import rolling_update
from musetalk_runtime.service.api.fleet import DeviceStatus
from musetalk_runtime.service.security.signed_tokens import SignedTokens, device_key

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(bundle: Path, avatar: Path, tmp_path: Path) -> Registry:
    found = Registry(str(tmp_path / "registry"))
    found.publish("bundle", "student", bundle)
    found.publish("avatar", "one", avatar)
    return found


@pytest.fixture
def settings(registry: Registry, tmp_path: Path) -> Any:  # noqa: ARG001 - which has to be filled
    """A device that takes all from the registry; ends its service afterwards."""
    (tmp_path / "secret").write_bytes(SECRET)
    state = tmp_path / "state"
    with HeldPort() as held:
        yield DeviceSettings(
            "a",
            state,
            tmp_path / "secret",
            port=held.port,
            registry=str(tmp_path / "registry"),
            bundles=(("fast", "student"),),
            options=("--sessions", "2", "--grace", "1"),
        )
        ServiceProcess(state).stop()


@asynccontextmanager
async def running(settings: DeviceSettings) -> AsyncIterator[tuple[Device, DeviceClient]]:
    """The device, as its actor runs it, and who asks its service."""
    device, client = Device(settings), DeviceClient(SECRET)
    task = asyncio.create_task(device.run())
    try:
        await eventually(lambda: client.status(settings.address))
        yield device, client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, MachineError):
            await task
        await device.close()
        await client.close()


async def eventually(ask: Callable[[], Coroutine[Any, Any, DeviceStatus]], wanted: Any = bool) -> Any:
    """The status, once there is one that is as `wanted`."""
    until = time.monotonic() + 90
    while True:
        with suppress(DeviceLost):
            if wanted(status := await ask()):
                return status
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


def test_a_device_serves_what_the_registry_has_and_outlives_who_started_it(settings: DeviceSettings) -> None:
    async def scenario() -> None:
        async with running(settings) as (device, client):
            first = await client.status(settings.address)
            assert first.avatars == {"one": ["fast"]}
            assert first.free == 2
            token = SignedTokens(device_key(SECRET, "a")).sign("anna")
            session = await asyncio.to_thread(Client(settings.port, token).begin)
            await device.drain()
            assert await device.sessions() == 1
        async with running(settings) as (device, client):  # as after a restart of Ray
            second = await client.status(settings.address)
            assert (second.process, second.sessions, second.admits) == (first.process, 1, False)
            assert (await asyncio.to_thread(Client(settings.port, token).ask, "GET", session))[0] == 200
            await device.reopen()
            assert (await client.status(settings.address)).admits

    asyncio.run(scenario())


def test_a_service_that_dies_ends_the_device_and_is_started_by_the_next(settings: DeviceSettings) -> None:
    async def scenario() -> None:
        device, client = Device(settings), DeviceClient(SECRET)
        task = asyncio.create_task(device.run())
        first = await eventually(lambda: client.status(settings.address))
        await device.drain()
        os.kill(pid_of(settings), signal.SIGKILL)
        with pytest.raises(MachineError, match="has ended"):
            await task
        await device.close()
        async with running(settings):
            status = await eventually(lambda: client.status(settings.address), lambda status: not status.admits)
            assert status.process != first.process  # and it is drained still
        await client.close()

    asyncio.run(scenario())


def test_other_settings_start_another_service(settings: DeviceSettings) -> None:
    settings.state.mkdir()
    process = ServiceProcess(settings.state)
    arguments = ["--port", str(settings.port), "--sessions", "1"]
    process.start(arguments)
    first = pid_of(settings)
    process.start(arguments)
    ServiceProcess(settings.state).start(arguments)
    assert pid_of(settings) == first
    other = ServiceProcess(settings.state)
    other.start([*arguments, "--grace", "1"])
    assert pid_of(settings) != first
    assert not process.alive
    other.stop()
    other.stop()
    assert not other.alive


def test_an_update_is_served_or_changes_nothing(
    settings: DeviceSettings, registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    good = registry.add("bundle", "student", renewed(bundle, tmp_path / "good"))
    bad = registry.add(
        "bundle", "student", edited(bundle, tmp_path / "bad", "generator.onnx.data", lambda data: b"\xff" * len(data))
    )

    async def scenario() -> None:
        async with running(settings) as (device, client):
            first = await client.status(settings.address)
            with pytest.raises(MachineError, match="mouth stands still"):
                await device.update("student", bad)
            assert (await client.status(settings.address)).process == first.process
            await device.update("student", good)
            second = await client.status(settings.address)
            assert second.process != first.process
            assert second.avatars == {"one": ["fast"]}
        ServiceProcess(settings.state).stop()
        async with running(settings):  # the update has not come to its end: this device stays with what it has
            assert Faces(settings.state, None).version("student") == good

    asyncio.run(scenario())


def test_avatars_come_and_go_by_the_registry(settings: DeviceSettings, registry: Registry, avatar: Path) -> None:
    async def scenario() -> None:
        async with running(settings) as (device, client):
            registry.publish("avatar", "two", avatar)
            await device.take_avatar("two")
            await device.take_avatar("two")
            assert set((await client.status(settings.address)).avatars) == {"one", "two"}
            shutil.copytree(avatar, settings.state / "avatars" / "three")  # as an upload leaves it
            await client.adopt(settings.address, "three")
            await eventually(
                lambda: client.status(settings.address), lambda _: registry.current("avatar", "three") is not None
            )
            with pytest.raises(MuseTalkEdgeError, match="not in the registry"):
                await device.take_avatar("nobody")
        ServiceProcess(settings.state).stop()
        registry.forget("avatar", "two")
        async with running(settings) as (_, client):
            assert set((await client.status(settings.address)).avatars) == {"one", "three"}

    asyncio.run(scenario())


class Stand:
    """A device that an update comes to; `fails` when it is updated, and misses the first `missed` answers."""

    def __init__(self, name: str, log: list[str], sessions: int = 0, fails: bool = False, missed: int = 0) -> None:
        self.name, self._log, self._sessions, self._fails, self._missed = name, log, sessions, fails, missed

    def drain(self) -> None:
        self._log.append(f"{self.name} drained")

    def reopen(self) -> None:
        self._log.append(f"{self.name} reopened")

    def sessions(self) -> int:
        if self._missed:
            self._missed -= 1
            raise MachineError("it does not answer")
        self._sessions, now = max(0, self._sessions - 1), self._sessions
        return now

    def update(self, bundle: str, version: str) -> None:
        if self._fails:
            raise MachineError("its mouth stands still")
        self._log.append(f"{self.name} has {bundle} {version}")


def test_a_rolling_update_goes_from_device_to_device() -> None:
    log: list[str] = []
    rolling_update([Stand("a", log, sessions=1), Stand("b", log)], "student", "v2", 60.0, lambda _: None)
    assert log == [f"{name} {what}" for name in "ab" for what in ("drained", "has student v2", "reopened")]


def test_a_rolling_update_waits_for_a_device_that_misses_an_answer() -> None:
    log: list[str] = []
    rolling_update([Stand("a", log, sessions=1, missed=1)], "student", "v2", 60.0, lambda _: None)
    assert log == ["a drained", "a has student v2", "a reopened"]
    with pytest.raises(MachineError, match="b: it does not answer: the update stops here"):
        rolling_update([Stand("b", log, missed=9)], "student", "v2", 0.0, lambda _: None)
    assert log[3:] == ["b drained", "b reopened"]


def test_a_rolling_update_stops_at_the_first_that_fails() -> None:
    log: list[str] = []
    devices = [Stand("a", log), Stand("b", log, fails=True), Stand("c", log)]
    with pytest.raises(MachineError, match="b: its mouth stands still: the update stops here"):
        rolling_update(devices, "student", "v2", 60.0, lambda _: None)
    assert log[3:] == ["b drained", "b reopened"]
    with pytest.raises(MachineError, match="9 of its sessions still run"):
        rolling_update([Stand("d", log, sessions=9)], "student", "v2", 0.0, lambda _: None)
    assert log[5:] == ["d drained", "d reopened"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a.b"},
        {"host": "::"},
        {"public_url": "ftp://x"},
        {"registry": None},
        {"bundles": (("a", "../b"),)},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: DeviceSettings, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        DeviceSettings(**{**vars(settings), **wrong})


def pid_of(settings: DeviceSettings) -> int:
    running = ServiceProcess(settings.state)._running
    assert running
    return running.pid
