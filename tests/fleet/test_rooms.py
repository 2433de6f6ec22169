"""Who has room: no device is ever sent more sessions than it holds."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from musetalk_runtime.fleet.front.rooms import Reservation, Rooms
from musetalk_runtime.service.api.fleet import DeviceStatus

CAPACITIES = {"a": 1}


def report(free: int, sessions: int = 0, admits: bool = True, **told: object) -> DeviceStatus:
    return DeviceStatus.model_validate(
        {
            "process": "00000000",
            "admits": admits,
            "free": free,
            "sessions": sessions,
            "avatars": {"one": ["fast", "fine"]},
            "holders": {},
            **told,
        }
    )


def known(**free: int) -> Rooms:
    rooms = Rooms(lambda: 0.0)
    rooms.keep_only(free)
    for name, count in free.items():
        rooms.report(name, report(count), 0.0)
    return rooms


def test_the_device_with_most_room_comes_first() -> None:
    assert known(a=1, b=3, c=0, d=2).fitting("one", None) == ["b", "d", "a"]


def test_a_device_needs_the_avatar_and_the_bundle() -> None:
    rooms = known(a=1, b=2)
    rooms.report("b", report(9, avatars={"two": ["fast"]}), 0.0)
    assert rooms.fitting("one", "fine") == ["a"]
    assert rooms.fitting("one", "other") == rooms.fitting("three", None) == []
    assert rooms.has("two", "fast")
    assert not rooms.has("two", "fine")


def test_devices_that_are_drained_lost_or_full_get_nothing() -> None:
    rooms = known(a=1, b=1, c=1, d=1)
    rooms.report("a", report(1, admits=False), 0.0)
    rooms.lose("b")
    rooms.fill("c")
    assert rooms.fitting("one", None) == ["d"]
    assert list(rooms.up) == ["a", "c", "d"]


def test_a_place_is_free_again_where_no_session_began() -> None:
    rooms = known(a=1)
    with rooms.reserve("a", "anna"):
        assert rooms.free == 0
        assert rooms.held_by("anna") == 1
    assert rooms.free == 1


def test_a_session_counts_until_a_report_was_asked_for_after_it_had_begun() -> None:
    rooms = known(a=2)
    with rooms.reserve("a", "anna") as reservation:
        reservation.keep(5.0)
    rooms.report("a", report(2), 4.0)  # asked for before it began, and read after
    assert rooms.free == 1
    rooms.report("a", report(1), 6.0)
    assert rooms.free == 1
    with rooms.reserve("a", "anna"):
        rooms.report("a", report(1), 7.0)
        assert rooms.free == 0


def test_a_report_that_was_overtaken_is_left_out() -> None:
    rooms = known(a=2)
    with rooms.reserve("a", "anna") as reservation:
        reservation.keep(5.0)
    rooms.report("a", report(1), 6.0)
    rooms.report("a", report(2), 4.0)
    assert rooms.free == 1


@dataclass
class Device:
    """What really is: the sessions that run, and those on their way to it."""

    capacity: int
    up: bool = True
    running: int = 0
    coming: list[tuple[Reservation, object]] = field(default_factory=list)
    answered: list[tuple[Reservation, object]] = field(default_factory=list)


class Arrivals(RuleBasedStateMachine):
    """Sessions that come, begin and end, and devices that die and come back, in any order, with reports that are old
    when they are read, and overtake each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.devices = {name: Device(capacity) for name, capacity in CAPACITIES.items()}
        self.reports: list[tuple[str, DeviceStatus, float]] = []
        self.rooms = Rooms(lambda: self.now)
        self.rooms.keep_only(CAPACITIES)

    def later(self) -> float:
        self.now += 1.0
        return self.now

    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def write_report(self, name: str) -> None:
        asked_at, device = self.later(), self.devices[name]
        if device.up:
            self.reports.append((name, report(device.capacity - device.running, device.running), asked_at))
        else:
            self.rooms.lose(name)

    @precondition(lambda self: self.reports)
    @rule(which=st.integers(0, 9))
    def read_report(self, which: int) -> None:
        name, told, asked_at = self.reports.pop(which % len(self.reports))
        self.later()
        self.rooms.report(name, told, asked_at)

    @rule()
    def arrive(self) -> None:
        fitting = self.rooms.fitting("one", None)
        if fitting:
            block = self.rooms.reserve(fitting[0], "anna")
            self.devices[fitting[0]].coming.append((block.__enter__(), block))

    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def begin(self, name: str) -> None:
        device = self.devices[name]
        if device.coming and device.up:
            assert device.running < device.capacity, "a session was sent to a device that is full"
            device.running += 1
            device.answered.append(device.coming.pop())

    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def hear_that_it_began(self, name: str) -> None:
        device = self.devices[name]
        if device.answered:
            reservation, block = device.answered.pop()
            reservation.keep(self.later())
            block.__exit__(None, None, None)  # type: ignore[attr-defined]

    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def end(self, name: str) -> None:
        self.devices[name].running = max(0, self.devices[name].running - 1)

    @precondition(lambda self: self.now > 20)
    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def die(self, name: str) -> None:
        device = self.devices[name]
        device.up, device.running = False, 0
        for _, block in [*device.coming, *device.answered]:
            block.__exit__(None, None, None)  # type: ignore[attr-defined]
        device.coming, device.answered = [], []
        self.reports = [one for one in self.reports if one[0] != name]
        self.rooms.lose(name)

    @rule(name=st.sampled_from(sorted(CAPACITIES)))
    def come_back(self, name: str) -> None:
        self.devices[name].up = True

    @invariant()
    def nobody_is_over_capacity(self) -> None:
        for device in self.devices.values():
            assert device.running + len(device.coming) <= device.capacity


TestArrivals = Arrivals.TestCase
TestArrivals.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(0, 40))
def test_sessions_fill_all_devices_and_no_more(capacities: list[int], sessions: int) -> None:
    rooms = known(**{f"d{n}": capacity for n, capacity in enumerate(capacities)})
    sent = []
    for _ in range(sessions):
        for name in rooms.fitting("one", None)[:1]:
            with rooms.reserve(name, "anna") as reservation:
                reservation.keep(1.0)
            sent.append(name)
    assert len(sent) == min(sessions, sum(capacities))
    assert all(sent.count(f"d{n}") <= capacity for n, capacity in enumerate(capacities))
