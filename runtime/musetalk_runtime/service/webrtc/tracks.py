"""The tracks of a WebRTC connection: a session's packets at the pace of its playback."""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.webrtc.packet_feed import EncodedPacket, Kind

TIME_BASE = Fraction(1, 90_000)
STEP_S = 0.05  # seconds between looks at the clock, which may jump
MAX_LATE_S = 0.5  # seconds after which a packet is left out


class PacketTrack(MediaStreamTrack):
    """The packets of one `kind` in `queue`, each when `clock` has come to it.

    What is too late is left out, and video goes on with the next keyframe, which `force_keyframe` asks for.
    """

    def __init__(
        self,
        kind: Kind,
        queue: "asyncio.Queue[EncodedPacket | None]",
        clock: PlaybackClock,
        force_keyframe: Callable[[], None],
    ) -> None:
        super().__init__()
        self.kind = kind
        self._queue, self._clock, self._force_keyframe = queue, clock, force_keyframe
        self._joined = kind == "audio"

    async def recv(self) -> Any:
        """The next one, as PyAV's Packet; raises MediaStreamError at the end."""
        while (found := await self._queue.get()) is not None:
            if found.kind != self.kind or not (self._joined or found.keyframe):
                continue
            if self._late(found) > MAX_LATE_S:
                if self._joined and self.kind == "video":
                    self._joined = False
                    self._force_keyframe()
                continue
            self._joined = True
            while (ahead := -self._late(found)) > 0:
                await asyncio.sleep(min(ahead, STEP_S))
            packet = av.Packet(found.data)
            packet.pts, packet.time_base = round(found.pts / TIME_BASE), TIME_BASE
            return packet
        self.stop()
        raise MediaStreamError

    def _late(self, packet: EncodedPacket) -> float:
        return self._clock.now() - float(packet.pts)
