"""A fleet on Ray: a front end and three devices on this machine, by the commands that an operator runs."""

import io
import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from helpers.fleet import begin_soon
from helpers.folders import edited, renewed
from helpers.media import moving_picture, write_video
from helpers.ray_fleet import START_S, RayFleet, listening, processes
from helpers.service_client import Client, Viewer, until
from musetalk_runtime.fleet.registry import Registry

pytest.importorskip("ray", reason="needs the extra fleet: scripts/test_fleet")
pytestmark = [pytest.mark.fleet, pytest.mark.timeout(900)]

NAMES = ("a", "b", "c")
ON_LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module")
def fleet(bundle: Path, avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayFleet]:
    """Three devices that hold four sessions each."""
    running = RayFleet(tmp_path_factory.mktemp("fleet"))
    registry = Registry(running.registry)
    registry.publish("bundle", "student", bundle)
    registry.publish("avatar", "one", avatar)
    try:
        running.start_head()
        for name in NAMES:  # one after the other: each takes all of a small machine
            running.start_device(name)
        yield running
    finally:
        running.close()


class Watched:
    """A session and who watches it from its first frame on."""

    def __init__(self, fleet: RayFleet) -> None:
        session = begin_soon(fleet.client, fps=10)
        self.device: str = session["device"]
        self.path = f"/v1/sessions/{session['id']}"
        client, path, query = led(session["stream"])
        self._viewer = Viewer(client, path.removesuffix("/stream.mp4"), f"?from=1&{query}")
        assert self._viewer.status == 200
        client, path, query = led(session["hls"])
        with client.request("GET", f"{path.replace('stream.m3u8', 'init.mp4')}?{query}") as answer:
            assert answer.status == 200
            self._init = answer.read()

    @property
    def seen(self) -> int:
        """Bytes."""
        return len(self._viewer.data)

    def wait_lost(self) -> None:
        """Wait until the stream breaks off."""
        self._viewer.join(60)
        assert self._viewer.cut

    def end(self, fleet: RayFleet) -> None:
        """End it, and see that its viewer has missed no frame."""
        assert fleet.client.ask("DELETE", self.path)[0] == 204
        self._viewer.join(60)
        assert not self._viewer.cut
        with av.open(io.BytesIO(self._init + self._viewer.data)) as container:
            times = sorted(
                packet.pts * packet.time_base for packet in container.demux(video=0) if packet.pts is not None
            )
        assert times[0] == 0
        assert {float(after - before) for before, after in pairwise(times)} == {0.1}


def led(address: str) -> tuple[Client, str, str]:
    """Where an absolute address leads: who asks there, the path, the query."""
    port, _, path = address.removeprefix("http://127.0.0.1:").partition("/")
    return Client(int(port)), "/" + path.partition("?")[0], path.partition("?")[2]


def go_on(watched: list[Watched]) -> None:
    """Wait until all of them see more."""
    seen = [one.seen for one in watched]
    until(lambda: all(one.seen > before for one, before in zip(watched, seen, strict=True)), "the streams go on")


def end_all(fleet: RayFleet, watched: list[Watched]) -> None:
    for one in watched:
        one.end(fleet)
    fleet.until(lambda devices: free(devices) == 12, "all devices are empty")


def free(devices: dict[str, dict[str, Any]]) -> int:
    return sum(device["free"] for device in devices.values())


def begin(fleet: RayFleet, count: int) -> list[Watched]:
    fleet.until(lambda devices: free(devices) >= count, "there is room", START_S)
    return [Watched(fleet) for _ in range(count)]


@pytest.mark.usefixtures("fleet")
def test_ray_listens_on_loopback_alone() -> None:
    pids = [pid for words in ("ray", "musetalk_runtime") for pid in processes(words) if pid != os.getpid()]
    found = listening(pids)
    assert found
    assert found <= ON_LOOPBACK


def test_a_device_that_is_killed_takes_its_own_sessions_and_no_others(fleet: RayFleet) -> None:
    watched = begin(fleet, 12)
    assert Counter(one.device for one in watched) == dict.fromkeys(NAMES, 4)
    assert fleet.begin()[0] == 503
    fleet.kill_device("b")
    fleet.until(lambda devices: not devices["b"]["up"], "it is out of rotation", 5)
    lost = [one for one in watched if one.device == "b"]
    kept = [one for one in watched if one.device != "b"]
    for one in lost:
        one.wait_lost()
    fleet.until(lambda _: fleet.client.ask("GET", lost[0].path)[0] == 410, "its sessions are gone", 15)
    assert fleet.client.request("GET", lost[0].path).headers["Retry-After"]
    go_on(kept)
    kept.pop(0).end(fleet)
    kept += begin(fleet, 1)
    assert kept[-1].device != "b"
    fleet.start_device("b")
    news = begin(fleet, 2)
    assert {one.device for one in news} == {"b"}
    end_all(fleet, kept + news)


def test_a_front_end_that_is_killed_is_missed_by_no_viewer(fleet: RayFleet) -> None:
    watched = begin(fleet, 3)
    for pid in processes("ray::ServeReplica"):
        os.kill(pid, signal.SIGKILL)
    go_on(watched)
    fleet.wait_for(*NAMES)
    end_all(fleet, watched + begin(fleet, 1))


def test_rays_head_that_starts_anew_is_missed_by_no_viewer(fleet: RayFleet) -> None:
    watched = begin(fleet, 3)
    fleet.end_head(signal.SIGKILL)
    go_on(watched)
    fleet.start_head()
    fleet.wait_for(*NAMES)
    go_on(watched)
    end_all(fleet, watched + begin(fleet, 9))


def test_a_device_is_drained_and_opened_again(fleet: RayFleet) -> None:
    watched = begin(fleet, 3)
    assert fleet.steer("drain", "a").returncode == 0
    fleet.until(lambda devices: not devices["a"]["admits"], "the front end knows")
    news = [Watched(fleet) for _ in range(6)]
    assert "a" not in {one.device for one in news}
    go_on([one for one in watched if one.device == "a"])
    assert fleet.steer("reopen", "a").returncode == 0
    end_all(fleet, watched + news)
    done = fleet.steer("drain", "nobody")
    assert done.returncode == 2
    assert "expected one of ['a', 'b', 'c']" in done.stderr


def test_an_update_goes_from_device_to_device_and_stops_at_the_first_that_fails(
    fleet: RayFleet, bundle: Path, tmp_path: Path
) -> None:
    registry = Registry(fleet.registry)
    pids = {name: fleet.service_pid(name) for name in NAMES}
    bad = edited(bundle, tmp_path / "bad", "generator.onnx.data", lambda data: b"\xff" * len(data))
    first = registry.current("bundle", "student")
    done = fleet.steer("update", "student", str(bad), "--registry", fleet.registry)
    assert done.returncode == 3, done.stderr
    assert "mouth stands still" in done.stderr
    assert "the update stops here" in done.stderr
    assert {name: fleet.service_pid(name) for name in NAMES} == pids
    assert registry.current("bundle", "student") == first
    good = renewed(bundle, tmp_path / "good")
    done = fleet.steer("update", "student", str(good), "--registry", fleet.registry, "--patience", "60")
    assert done.returncode == 0, done.stderr
    assert not {fleet.service_pid(name) for name in NAMES} & set(pids.values())
    assert registry.current("bundle", "student") != first
    fleet.wait_for(*NAMES)
    end_all(fleet, begin(fleet, 1))


def test_an_avatar_that_is_uploaded_comes_to_as_many_devices_as_are_asked(fleet: RayFleet, tmp_path: Path) -> None:
    write_video(tmp_path / "face.mp4", [moving_picture(k) for k in range(6)])
    status, answer = fleet.client.ask(
        "POST", "/v1/avatars?name=two&face_box=200,60,340,220&copies=2", (tmp_path / "face.mp4").read_bytes()
    )
    assert status == 202, answer

    def having() -> list[str]:
        return [name for name, device in fleet.devices().items() if "two" in device["avatars"]]

    fleet.until(lambda _: len(having()) == 2, "two devices have it", START_S)
    session = begin_soon(fleet.client, avatar="two", fps=10)
    assert session["device"] in having()
    assert fleet.client.ask("DELETE", "/v1/avatars/two")[0] == 409  # a session uses it
    assert fleet.client.ask("DELETE", f"/v1/sessions/{session['id']}")[0] == 204
    fleet.until(lambda _: fleet.client.ask("DELETE", "/v1/avatars/two")[0] == 204, "it is deleted")
    fleet.until(lambda _: not having(), "no device has it")
    assert "two" not in Registry(fleet.registry).names("avatar")


def test_a_name_that_another_device_has_is_refused_and_harms_nobody(fleet: RayFleet) -> None:
    watched = begin(fleet, 3)
    impostor = fleet.device("a", "impostor")
    assert impostor.wait(START_S) == 2
    assert "2 devices of the cluster are called 'a'" in impostor.lines[-1]
    fleet.wait_for(*NAMES)
    go_on(watched)
    end_all(fleet, watched)


def test_a_device_with_another_secret_cannot_join(fleet: RayFleet, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another secret, and long enough to be one")
    stranger = fleet.start_device("d", tmp_path / "other", wait=False)
    until(lambda: stranger.says("starting again"), "it is refused", START_S)
    assert "d" not in fleet.devices()
