"""A WHEP client by aiortc, which decodes what comes."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiortc
from aiortc import RTCRtpReceiver
from aiortc.clock import current_ntp_time
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, RtcpSrPacket, pack_remb_fci

from helpers.service_client import Client
from musetalk_runtime.service.session.live_session import LiveSession

CLOCKS = {"video": 90_000, "audio": 48_000}  # Hz, of RTP
TAIL = 24  # bytes by which a packet is known
BASE = current_ntp_time() >> 32  # whole seconds, so that floats hold the rest
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
            assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {what}; {self._state()}"
            await asyncio.sleep(0.01)

    def _state(self) -> str:
        link = self.connection.getTransceivers()[0].receiver.transport
        states = f"{self.connection.connectionState}, ICE {link.transport.state}, DTLS {link.state}"
        return f"{states}; {len(self.video)} pictures, {len(self.audio)} pieces of sound"

    async def estimate(self, kbps: int) -> None:
        """Tell the sender of the video what can be received (REMB)."""
        receiver = self.connection.getTransceivers()[0].receiver
        sources = [source.source for source in receiver.getSynchronizationSources()]
        fci = pack_remb_fci(kbps * 1000, sources)
        report = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci)
        await receiver.transport._send_rtp(bytes(report))

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
    for close in session.audience.peers.values():
        loop.call_soon_threadsafe(_drop_packets, close.__self__._connection)  # type: ignore[attr-defined]


class Silent:
    """`transport`, but what is sent goes nowhere."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def sendto(self, *_: Any) -> None:
        """It is lost."""


def _drop_packets(connection: Any) -> None:
    transport = connection.getTransceivers()[0].receiver.transport.transport
    for protocol in transport._connection._protocols:
        protocol.datagram_received = lambda *_: None
        protocol.transport = Silent(protocol.transport)


class TimedPackets:
    """What viewers get while it is ``listening``: ``reports`` of each kind, as pairs of NTP's seconds and RTP's time.

    ``sent`` is to be what the session has sent. Packets are told from each other by their last bytes; those of still
    pictures can be the same, and count for none.
    """

    def __init__(self) -> None:
        self.reports: dict[str, list[tuple[Fraction, int]]] = {}
        self.sent: list[Any] = []
        # the last bytes of packets: RTP's time of each
        self._ends: dict[str, defaultdict[bytes, list[int]]] = {"video": defaultdict(list), "audio": defaultdict(list)}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note what the receivers of this process get."""
        receiver = RTCRtpReceiver
        take, report = receiver._handle_rtp_packet, receiver._handle_rtcp_packet

        async def taken(self_: Any, packet: Any, arrival_time_ms: int) -> None:
            if packet.marker or self_.track.kind == "audio":  # the last of a picture
                self._ends[self_.track.kind][packet.payload[-TAIL:]].append(packet.timestamp)
            await take(self_, packet, arrival_time_ms)

        async def reported(self_: Any, packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                told = packet.sender_info
                pair = Fraction(told.ntp_timestamp, 1 << 32), told.rtp_timestamp
                self.reports.setdefault(self_.track.kind, []).append(pair)
            await report(self_, packet)

        receiver._handle_rtp_packet, receiver._handle_rtcp_packet = taken, reported  # type: ignore[method-assign]
        try:
            yield
        finally:
            receiver._handle_rtp_packet, receiver._handle_rtcp_packet = take, report  # type: ignore[method-assign]

    def begins(self, kind: str, report: tuple[Fraction, int]) -> list[float]:
        """When the stream began, by a `report` and each packet of the `kind`."""
        ntp, rtp = report
        ends, found = self._ends[kind], []
        tails = Counter(packet.data[-TAIL:] for packet in self.sent if packet.kind == kind)
        for packet in self.sent:
            tail = packet.data[-TAIL:]
            if packet.kind == kind and tails[tail] == len(ends.get(tail, ())) == 1 and len(tail) == TAIL:
                ahead = (ends[tail][0] - rtp + (1 << 31)) % (1 << 32) - (1 << 31)
                found.append(float(ntp - BASE + Fraction(ahead, CLOCKS[kind]) - packet.pts))
        return found


def watching(client: Client, path: str, act: Callable[[WhepViewer], Awaitable[Any]], voice: Path | None = None) -> Any:
    """What `act` gives for a viewer of `path`."""

    async def watch() -> Any:
        async with WhepViewer(client, path, voice) as viewer:
            return await act(viewer)

    return asyncio.run(watch())
