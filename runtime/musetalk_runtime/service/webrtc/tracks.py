"""The tracks of a WebRTC connection: a session's packets, at an even pace."""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from musetalk_runtime.service.delivery.packet_feed import EncodedPacket, Kind, PacketFeed, PacketQueue

TIME_BASE = Fraction(1, 90_000)
MAX_LATE_S = 0.5  # seconds after its time from which a packet is left out
STEP_S = 0.05  # seconds between looks at the clock, which may jump


class PacketTrack(MediaStreamTrack):
    """The packets of one `kind` in `feed`, from the first call of `recv` on.

    `now` is the second that is played, and a packet is sent when that has come to it. So those that are made at once,
    as where nobody speaks, leave at the pace of those that take longer, and receivers need hold few back. What comes
    too late is left out, and video goes on with the next keyframe. ``sent`` is the time in the stream of the last
    packet, in seconds.
    """

    def __init__(self, kind: Kind, feed: PacketFeed, now: Callable[[], float]) -> None:
        super().__init__()
        self.kind, self._kind = kind, kind
        self.sent: Fraction | None = None
        self._feed, self._now = feed, now
        self._queue: PacketQueue | None = None
        self._joined = kind == "audio"

    async def recv(self) -> Any:
        """The next one, as PyAV's Packet; raises MediaStreamError at the end."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._queue is None:
            self._queue = self._feed.subscribe(self._kind)
        while (found := await self._queue.get()) is not None:
            if self._takes(found):
                while (wait := float(found.pts) - self._now()) > 0:
                    await asyncio.sleep(min(wait, STEP_S))
                packet = av.Packet(self._feed.audible(found).data)
                packet.pts, packet.time_base = round(found.pts / TIME_BASE), TIME_BASE
                self.sent = found.pts
                return packet
        self.stop()
        raise MediaStreamError

    def stop(self) -> None:
        """Take no more. Stopping twice is fine."""
        if self._queue is not None:
            self._feed.unsubscribe(self._queue)
        super().stop()

    def _takes(self, packet: EncodedPacket) -> bool:
        if self._now() - float(packet.pts) > MAX_LATE_S:
            if self._joined and self.kind == "video":
                self._joined = False
                self._feed.request_keyframe()
            return False
        self._joined = self._joined or packet.keyframe
        return self._joined
