"""One viewer's WebRTC connection."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.webrtc.packet_feed import Kind, PacketFeed
from musetalk_runtime.service.webrtc.tracks import PacketTrack

CONNECT_TIMEOUT_S = 20.0
KINDS: tuple[Kind, ...] = ("video", "audio")


class Peer:
    """A connection that shows what `feed` gives, at the pace of `clock`; ``id`` names it, `on_close` is called once.

    For the event loop.
    """

    def __init__(
        self, feed: PacketFeed, clock: PlaybackClock, force_keyframe: Callable[[], None], on_close: Callable[[], None]
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self._feed, self._clock, self._force_keyframe, self._on_close = feed, clock, force_keyframe, on_close
        self._subscriptions = ExitStack()
        self._connection = RTCPeerConnection(RTCConfiguration([]))  # its own addresses do: the viewer comes to it
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    async def answer(self, offer: str) -> str:
        """The SDP that answers an `offer` to receive H.264 and Opus; raises ServiceError."""
        connection = self._connection
        connection.on("connectionstatechange", self._watch)
        try:
            for kind in KINDS:
                self._send(kind)
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
        except (ValueError, InvalidAccessError, InvalidStateError, AssertionError, KeyError, IndexError) as error:
            await self.close()
            raise ServiceError(
                422, "bad_offer", f"the SDP cannot be answered: {error or type(error).__name__}"
            ) from None
        asyncio.get_running_loop().call_later(CONNECT_TIMEOUT_S, self._give_up)
        return str(connection.localDescription.sdp)

    def _send(self, kind: Kind) -> None:
        """Offer the packets of one `kind`."""
        queue = self._subscriptions.enter_context(self._feed.subscribe())
        track = PacketTrack(kind, queue, self._clock, self._force_keyframe)
        track.on("ended", self._end)
        transceiver = self._connection.addTransceiver(track, direction="sendonly")
        transceiver.setCodecPreferences(_codecs(kind))
        # aiortc keeps a receiver's wish for a keyframe for encoders of its own.
        transceiver.sender._send_keyframe = self._force_keyframe  # type: ignore[method-assign]

    async def close(self) -> None:
        """End the connection. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._subscriptions.close()
        self._on_close()
        await self._connection.close()

    def _watch(self) -> None:
        if self._connection.connectionState in ("failed", "closed"):
            self._end()

    def _give_up(self) -> None:
        if self._connection.connectionState != "connected":
            self._end()

    def _end(self) -> None:
        self._closing = asyncio.ensure_future(self.close())


def _codecs(kind: Kind) -> list[RTCRtpCodecCapability]:
    """Those that packets are in, and what repeats lost ones."""
    wanted = ("video/h264", "video/rtx") if kind == "video" else ("audio/opus",)
    return [codec for codec in RTCRtpSender.getCapabilities(kind).codecs if codec.mimeType.lower() in wanted]
