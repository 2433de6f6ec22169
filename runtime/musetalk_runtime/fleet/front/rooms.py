"""The room on each device, as far as the front end knows it between two reports."""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from musetalk_runtime.service.api.fleet import DeviceStatus


@dataclass(eq=False)
class Reservation:
    """The place of one session, held until a report counts it; it is let go of unless `keep` is called."""

    holder: str
    begun_at: float | None = None  # when the device had answered that it runs

    def keep(self, now: float) -> None:
        """The session runs."""
        self.begun_at = now


@dataclass
class Room:
    """A device's last report, None while it does not answer, and what was reserved since."""

    status: DeviceStatus | None = None
    reservations: list[Reservation] = field(default_factory=list)
    seen_at: float | None = None
    asked_at: float = -math.inf

    @property
    def free(self) -> int:
        """How many more sessions fit, at least."""
        if self.status is None or not self.status.admits:
            return 0
        return max(0, self.status.free - len(self.reservations))


class Rooms:
    """The room on every device, by name.

    A session counts from the moment it is sent to a device. It is counted here until a report was asked for after the
    device had answered, for only such a report is sure to count it. So a device is never sent more than it has room
    for, whatever order reports and answers come in.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._rooms: dict[str, Room] = {}

    def __getitem__(self, name: str) -> Room:
        return self._rooms[name]

    def __contains__(self, name: str) -> bool:
        return name in self._rooms

    def keep_only(self, names: Mapping[str, object]) -> None:
        """Know these devices, and no others."""
        self._rooms = {name: self._rooms.get(name, Room()) for name in names}

    def report(self, name: str, status: DeviceStatus, asked_at: float) -> None:
        """Take in what a device says of itself, which was asked for at `asked_at`; an older report than the last is
        left out.
        """
        room = self._rooms[name]
        if asked_at < room.asked_at:
            return
        room.status, room.seen_at, room.asked_at = status, self._now(), asked_at
        room.reservations = [one for one in room.reservations if one.begun_at is None or one.begun_at > asked_at]

    def lose(self, name: str) -> None:
        """Send nothing to a device that does not answer, until it reports again."""
        if name in self._rooms:
            self._rooms[name].status = None

    def fill(self, name: str) -> None:
        """Send nothing to a device that refused a session, until it reports again."""
        room = self._rooms.get(name)
        if room and room.status:
            room.status = room.status.model_copy(update={"free": 0})

    def silent(self, name: str) -> float:
        """Seconds for which a device has not reported; infinite if it never has."""
        seen_at = self._rooms[name].seen_at
        return math.inf if seen_at is None else self._now() - seen_at

    def fitting(self, avatar: str, bundle: str | None) -> list[str]:
        """The devices with room that have `avatar` and `bundle`, the most room first, by chance where it is equal."""
        names = [name for name, room in self._rooms.items() if room.free and _has(room, avatar, bundle)]
        random.shuffle(names)
        return sorted(names, key=lambda name: -self._rooms[name].free)

    def has(self, avatar: str, bundle: str | None = None) -> bool:
        """Whether any device that answers has `avatar` and `bundle`, with room or without."""
        return any(_has(room, avatar, bundle) for room in self._rooms.values())

    def having(self, avatar: str) -> list[str]:
        """The devices that answer and have `avatar`."""
        return [name for name, room in self._rooms.items() if _has(room, avatar, None)]

    @contextmanager
    def reserve(self, name: str, holder: str) -> Iterator[Reservation]:
        """Hold a place on a device; it is free again after the block, unless the reservation was kept in it."""
        room, reservation = self._rooms[name], Reservation(holder)
        room.reservations.append(reservation)
        try:
            yield reservation
        finally:
            if reservation.begun_at is None:
                room.reservations.remove(reservation)

    @property
    def up(self) -> dict[str, DeviceStatus]:
        """The last reports of the devices that answer."""
        return {name: room.status for name, room in self._rooms.items() if room.status}

    @property
    def known(self) -> list[str]:
        """The names of all devices, also of those that do not answer."""
        return list(self._rooms)

    @property
    def free(self) -> int:
        """How many more sessions fit on all devices, at least."""
        return sum(room.free for room in self._rooms.values())

    def held_by(self, holder: str) -> int:
        """How many sessions the holder of a token has on all devices, at most."""
        reserved = Counter(one.holder for room in self._rooms.values() for one in room.reservations)
        return reserved[holder] + sum(status.holders.get(holder, 0) for status in self.up.values())


def _has(room: Room, avatar: str, bundle: str | None) -> bool:
    bundles = room.status.avatars.get(avatar) if room.status else None
    return bundles is not None and (bundle is None or bundle in bundles)
