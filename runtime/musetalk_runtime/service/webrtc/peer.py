"""One viewer's WebRTC connection."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender
from aiortc import RTCSessionDescription as Description
from aiortc.rtcrtpparameters import RTCRtpCodecCapability
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, unpack_remb_fci

from musetalk_runtime.service.delivery.packet_feed import Kind
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.webrtc.ice_server import IceServer
from musetalk_runtime.service.webrtc.microphone import Microphone
from musetalk_runtime.service.webrtc.offer import bad_offer, read_offer
from musetalk_runtime.service.webrtc.sender_reports import SenderReports
from musetalk_runtime.service.webrtc.tracks import PacketTrack

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 15.0  # seconds from the answer until it is connected
CLOSE_TIMEOUT_S = 5.0  # seconds for aiortc to close a connection
CONSTRAINED_BASELINE = "42e01f"  # what libx264's ultrafast makes; level 3.1, but receivers are asked for more


class Peer:
    """A connection that shows `session` and lets it hear a microphone; `spend` charges its owner for that, in bytes.

    It counts as a viewer until it is closed: by `close`, by the viewer, at the session's end, or half a minute after
    the viewer was last heard of. ``id`` names it. For the event loop.
    """

    def __init__(self, session: LiveSession, spend: Callable[[int], bool], ice_servers: Sequence[IceServer]) -> None:
        self.id = secrets.token_urlsafe(12)
        self._session = session
        servers = [RTCIceServer(one.url, one.username or None, one.credential or None) for one in ice_servers]
        self._connection = RTCPeerConnection(RTCConfiguration(servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._microphone = Microphone(session, spend)
        self._reports = SenderReports()
        self._closing: asyncio.Task[None] | None = None
        self._timeout: asyncio.TimerHandle | None = None
        session.audience.add_peer(self.id, self.close)

    async def answer(self, offer: str) -> str:
        """The SDP that answers an `offer` to receive H.264 and Opus; raises ServiceError."""
        try:
            text, kinds = read_offer(offer)
            connection = self._connection
            connection.on("connectionstatechange", self._watch)
            for kind in kinds:
                self._send(kind)
            try:
                await connection.setRemoteDescription(Description(text, "offer"))
                await connection.setLocalDescription(await connection.createAnswer())
            except Exception as error:  # of all kinds, for SDP that aiortc did not expect
                raise bad_offer(error) from None
        except BaseException:
            await self.close()
            raise
        self._timeout = asyncio.get_running_loop().call_later(CONNECT_TIMEOUT_S, self._give_up)
        return str(connection.localDescription.sdp)

    async def close(self) -> None:
        """End the connection. Closing twice is fine."""
        self._end()
        if self._closing:
            await asyncio.shield(self._closing)

    def _send(self, kind: Kind) -> None:
        """Offer the packets of one `kind`, and hear what the viewer sends of it."""
        session = self._session
        track = PacketTrack(kind, session.packets, session.clock.now)
        track.on("ended", self._end)
        transceiver = self._connection.addTransceiver(track, "sendrecv" if kind == "audio" else "sendonly")
        transceiver.setCodecPreferences(_codecs(kind))  # before the offer is read: else VP8 may be agreed on
        self._reports.correct(transceiver.sender, track)
        # aiortc keeps a receiver's wish for a keyframe (PLI, FIR) for encoders of its own.
        transceiver.sender._send_keyframe = session.packets.request_keyframe  # type: ignore[method-assign]
        if kind == "video" and session.bit_rate:
            take = transceiver.sender._handle_rtcp_packet
            transceiver.sender._handle_rtcp_packet = partial(self._hear, take)  # type: ignore[method-assign]
        if kind == "audio":
            receiver: Any = transceiver.receiver
            receiver._handle_rtp_packet = self._microphone.receive

    async def _hear(self, take: Callable[[Any], Awaitable[None]], packet: Any) -> None:
        """`take` an RTCP packet, and the receiver's estimate of what it can receive (REMB), if it is one."""
        await take(packet)
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP and self._session.bit_rate:
            with suppress(ValueError):  # another message of applications
                bits, _ = unpack_remb_fci(packet.fci)
                self._session.bit_rate.estimate(self.id, bits / 1000)

    def _watch(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self._end()

    def _give_up(self) -> None:
        if self._connection.connectionState != "connected":
            self._end()

    def _end(self) -> None:
        if not self._closing:
            self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        self._microphone.close()
        if self._timeout:
            self._timeout.cancel()
        try:
            await asyncio.wait_for(self._connection.close(), CLOSE_TIMEOUT_S)
        except Exception:  # a bug of aiortc's must not let a viewer be counted for ever
            log.exception("a WebRTC connection was not closed")
        finally:
            if self._session.bit_rate:
                self._session.bit_rate.forget(self.id)
            self._session.audience.remove_peer(self.id)


def _codecs(kind: Kind) -> list[RTCRtpCodecCapability]:
    """Those that packets are in, the best first, and what repeats lost ones."""
    wanted = ("video/h264", "video/rtx") if kind == "video" else ("audio/opus",)
    found = [codec for codec in RTCRtpSender.getCapabilities(kind).codecs if codec.mimeType.lower() in wanted]
    return sorted(found, key=lambda codec: codec.parameters.get("profile-level-id") != CONSTRAINED_BASELINE)
