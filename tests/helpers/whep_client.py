"""A WHEP client by aiortc, which decodes what comes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiortc
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

from helpers.service_client import Client
from musetalk_runtime.service.session.live_session import LiveSession

SDP = {"Content-Type": "application/sdp"}


class WhepViewer:
    """Watches the session at `path`, and sends the sound of `voice`, a file, if there is one. Use ``async with``.

    ``video`` and ``audio`` are the decoded frames so far, ``ended`` the kinds whose track has ended; ``location`` is
    what to delete. ``lost`` cuts it off, as when a cable is drawn.
    """

    def __init__(self, client: Client, path: str, voice: Path | None = None) -> None:
        self.video: list[Any] = []
        self.audio: list[Any] = []
        self.ended: set[str] = set()
        self.location = ""
        self.connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration([]))
        self._client, self._path, self._voice = client, path, voice
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "WhepViewer":
        connection = self.connection
        connection.addTransceiver("video", direction="recvonly")
        if self._voice:
            connection.addTransceiver(MediaPlayer(str(self._voice)).audio, direction="sendrecv")
        else:
            connection.addTransceiver("audio", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        answer = await asyncio.to_thread(
            self._client.request, "POST", self._path + "/whep", connection.localDescription.sdp, **SDP
        )
        assert answer.status == 201, answer.read()
        self.answer = answer.read().decode()
        self.headers = answer.headers
        self.location = answer.headers["Location"]
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(self.answer, "answer"))
        for found in connection.getTransceivers():
            frames = self.video if found.kind == "video" else self.audio
            self._tasks.append(asyncio.create_task(self._receive(found.receiver.track, frames)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Wait for `condition`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {what}"
            await asyncio.sleep(0.01)

    async def lost(self) -> None:
        """Send nothing more, and answer nothing."""
        _drop_packets(self.connection)

    async def _receive(self, track: Any, frames: list[Any]) -> None:
        with suppress(MediaStreamError):
            while True:
                frames.append(await track.recv())
        self.ended.add(track.kind)


def lose_paths(session: LiveSession) -> None:
    """Have the connections of `session` send and hear nothing more, as where a network between goes away."""
    loop = session.packets._loop
    for close in session.peers.values():
        loop.call_soon_threadsafe(_drop_packets, close.__self__._connection)  # type: ignore[attr-defined]


def _drop_packets(connection: Any) -> None:
    transport = connection.getTransceivers()[0].receiver.transport.transport
    for protocol in transport._connection._protocols:
        protocol.datagram_received = lambda *_: None
        protocol.transport.sendto = lambda *_: None


def watching(client: Client, path: str, act: Callable[[WhepViewer], Awaitable[Any]], voice: Path | None = None) -> Any:
    """What `act` gives for a viewer of `path`."""

    async def watch() -> Any:
        async with WhepViewer(client, path, voice) as viewer:
            return await act(viewer)

    return asyncio.run(watch())
