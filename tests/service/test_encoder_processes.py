"""Sessions of a service that encode in processes, and those that encode once for all who watch."""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.output.x264 import X264
from musetalk_runtime.service.scheduling import session_encoders
from musetalk_runtime.service.scheduling.capacity import Cost
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings


@pytest.fixture
def service(bundle: Path, avatar: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """One that uses processes on any machine."""
    monkeypatch.setattr(session_encoders, "MIN_CORES_FOR_PROCESSES", 0)
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=3))


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with serving(service) as server:
        yield Client(server.port)


def shown(data: bytes) -> list[int]:
    """The times of the frames that a decoder makes of `data`."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.pts for frame in container.decode(video=0) if frame.pts is not None]


def test_a_lone_session_stays_and_others_survive_their_process(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    encoders = service.starter.encoders.pool
    assert encoders
    paths = [client.begin()]
    until(lambda: encoders.pids and encoders.settled, "a process is ready")
    assert all(process.sessions == 0 for process in encoders._processes)
    paths.append(client.begin())
    viewers = [Viewer(client, path, whole=True) for path in paths]
    for path in paths:
        client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())
    until(lambda: sum(process.sessions for process in encoders._processes) == 1, "the second one is in a process")
    sessions = list(service.sessions.running)
    for _ in range(2):
        frames = [session.frames for session in sessions]
        until(lambda f=frames: all(s.frames > n + 15 for s, n in zip(sessions, f, strict=True)), "it goes on")  # type: ignore[misc]
        for pid in encoders.pids:
            os.kill(pid, signal.SIGKILL)
    frames = [session.frames for session in sessions]
    until(lambda: all(s.frames > n + 15 for s, n in zip(sessions, frames, strict=True)), "it goes on")
    for path in paths:
        client.ask("DELETE", path)
    for viewer, session in zip(viewers, sessions, strict=True):
        viewer.join(60)
        times = shown(viewer.init + viewer.data)
        assert len(times) == session.frames
        assert len({after - before for before, after in pairwise(times)}) == 1
        assert session.error is None
    until(lambda: all(process.sessions == 0 for process in encoders._processes), "no session is left in one")


def test_sessions_that_come_at_once_find_a_process(service: Service) -> None:
    service.measure()
    encoders = service.starter.encoders.pool
    assert encoders
    with serving(service) as server:
        client = Client(server.port)
        for _ in range(3):
            client.begin()
        until(lambda: all(session.frames > 5 for session in service.sessions.running), "they run")
        assert sum(process.sessions for process in encoders._processes) == 2, "all but the first one"


def test_a_service_that_encodes_by_hardware_needs_no_processes(client: Client, service: Service) -> None:
    service.admission.costs = {pairing: Cost(0.001, 0.001, 0.001) for pairing in service.catalog.pairings()}
    client.begin()
    client.begin()
    assert service.starter.encoders.pool
    assert service.starter.encoders.pool.pids == []


def test_what_is_watched_in_many_ways_is_encoded_once(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode, lock = X264.encode, threading.Lock()

    def counting(self: X264, index: int, *rest: Any) -> list[Any]:
        with lock:
            encoded.append(index)
        return encode(self, index, *rest)

    monkeypatch.setattr(X264, "encode", counting)
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1))
        with serving(service) as server:
            client = Client(server.port)
            path = client.begin()
            viewers = [Viewer(client, path, whole=True) for _ in range(3)]
            client.ask("POST", f"{path}/audio", speech(1.0).read_bytes())
            until(lambda: client.ask("GET", f"{path}/hls/stream.m3u8")[0] == 200, "a playlist")
            session = service.sessions.running[0]
            until(lambda: session.frames > 40, "frames")
            client.ask("DELETE", path)
            for viewer in viewers:
                viewer.join(60)
    assert encoded == list(range(session.frames))
    assert all(shown(viewer.init + viewer.data) for viewer in viewers)
