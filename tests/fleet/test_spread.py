"""Avatars come to as many devices as are wanted, and an autoscaler is told how many devices are."""

import asyncio
from pathlib import Path

import pytest

from helpers.fleet import ListedDevices
from musetalk_runtime.fleet.front.autoscaling import REFUSED_FOR_S, Autoscaling
from musetalk_runtime.fleet.front.rooms import Rooms
from musetalk_runtime.fleet.front.spread import Spread
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.service.api.fleet import DeviceStatus


def report(free: int, sessions: int = 0, avatars: tuple[str, ...] = ()) -> DeviceStatus:
    return DeviceStatus(
        process="00000000",
        admits=True,
        free=free,
        sessions=sessions,
        avatars={name: ["default"] for name in avatars},
        holders={},
    )


@pytest.fixture
def rooms() -> Rooms:
    """Of three devices, a, b and c, of which c has the most room."""
    found = Rooms(lambda: 0.0)
    found.keep_only(dict.fromkeys("abc"))
    for n, name in enumerate("abc"):
        found.report(name, report(n), 0.0)
    return found


@pytest.fixture
def registry(avatar: Path, tmp_path: Path) -> Registry:
    found = Registry(str(tmp_path))
    found.publish("avatar", "anna", avatar)
    return found


def asked(rooms: Rooms, registry: Registry, spread: int = 1) -> list[str]:
    """The devices that are asked to take an avatar, when it is seen to so many times."""
    directory = ListedDevices()
    spreading = Spread(registry, directory, rooms)
    for _ in range(spread):
        asyncio.run(spreading.spread())
    assert {avatar for _, avatar in directory.taken} <= {"anna"}
    return [name for name, _ in directory.taken]


def test_an_avatar_comes_to_all_devices_once(rooms: Rooms, registry: Registry) -> None:
    assert asked(rooms, registry, spread=3) == ["c", "b", "a"]


def test_copies_go_to_the_devices_with_most_room(rooms: Rooms, registry: Registry) -> None:
    registry.set_copies("anna", 2)
    assert asked(rooms, registry, spread=3) == ["c", "b"]


def test_a_device_that_is_gone_is_made_up_for(rooms: Rooms, registry: Registry) -> None:
    registry.set_copies("anna", 1)
    rooms.report("c", report(2, avatars=("anna",)), 1.0)
    assert asked(rooms, registry) == []
    rooms.lose("c")
    assert asked(rooms, registry) == ["b"]


def test_what_is_not_there_yet_or_is_being_deleted_is_not_spread(rooms: Rooms, registry: Registry) -> None:
    registry.set_copies("ben", 3)  # uploaded, and not prepared yet
    registry.set_copies("anna", 0)
    assert asked(rooms, registry) == []


def test_devices_are_wanted_for_what_runs_what_was_refused_and_what_is_to_spare() -> None:
    now = 0.0
    rooms = Rooms(lambda: now)
    scaling = Autoscaling(ListedDevices(), rooms, spare=2, now=lambda: now)
    assert scaling.wanted == 0  # nobody knows yet what a device holds
    rooms.keep_only(dict.fromkeys("ab"))
    rooms.report("a", report(0, 4), 0.0)
    rooms.report("b", report(3, 1), 0.0)
    assert scaling.wanted == 2  # for 5 + 2 sessions, at 4 a device
    for _ in range(6):
        scaling.refuse()
    assert scaling.wanted == 4
    now += REFUSED_FOR_S + 1
    assert scaling.wanted == 2
