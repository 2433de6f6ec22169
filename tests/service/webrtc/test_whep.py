"""A session by WebRTC, to aiortc and to Chromium."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.service_client import Client, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

aiortc = pytest.importorskip("aiortc")
SDP = {"Content-Type": "application/sdp"}


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=2))


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Any]:
    with serving(service) as running:
        yield running


@pytest.fixture
def client(server: Any, service: Service) -> Iterator[Client]:
    yield Client(server.port)
    for session in service.running:
        session.stop()
    until(lambda: not service.running, "the sessions end")


async def watch(client: Client, path: str, seconds: float) -> tuple[list[Any], list[Any], str]:
    """What aiortc gets in the first `seconds` of video, and where the connection is."""
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    answer = await asyncio.to_thread(client.request, "POST", f"{path}/whep", peer.localDescription.sdp, **SDP)
    assert answer.status == 201
    assert answer.headers["Content-Type"].startswith("application/sdp")
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(answer.read().decode(), "answer"))
    tracks = {found.kind: found.receiver.track for found in peer.getTransceivers()}
    frames: dict[str, list[Any]] = {"video": [], "audio": []}

    async def receive(kind: str) -> None:
        while not frames["video"] or frames["video"][-1].time - frames["video"][0].time < seconds:
            frames[kind].append(await tracks[kind].recv())

    await asyncio.wait_for(asyncio.gather(receive("video"), receive("audio")), 60)
    await peer.close()
    return frames["video"], frames["audio"], answer.headers["Location"]


def test_frames_and_sound_come_decoded_and_in_step(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    path = client.begin()
    client.ask("POST", f"{path}/audio", speech(4.0).read_bytes())
    video, sound, location = asyncio.run(watch(client, path, 2.0))
    assert {(frame.width, frame.height) for frame in video} == {(320, 240)}
    steps = np.diff([frame.pts for frame in video])
    assert set(steps) == {3600}  # of 90 kHz: 25 frames a second
    assert any(np.abs(one.to_ndarray().astype(int)).max() > 1000 for one in sound)
    assert location.startswith(f"{path}/whep/")
    until(lambda: service.viewers == 0, "the viewer is gone")
    assert client.ask("DELETE", location)[1]["error"]["code"] == "unknown_connection"
