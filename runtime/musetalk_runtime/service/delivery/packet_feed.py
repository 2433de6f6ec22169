"""The feed of a session's encoded frames and sound, for WebRTC."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.output.video import AccessUnit
from musetalk_runtime.service.delivery.opus_encoder import SILENCE, OpusEncoder

MAX_QUEUED = 1024  # packets that wait for a slow subscriber; then the oldest are dropped
KEYFRAME_INTERVAL_S = 0.3  # seconds between two keyframes that subscribers ask for, at least

Kind = Literal["video", "audio"]


@dataclass(frozen=True)
class EncodedPacket:
    """An H.264 access unit in Annex B, or an Opus packet; ``pts`` in seconds of the stream."""

    kind: Kind
    data: bytes
    pts: Fraction
    keyframe: bool = False


PacketQueue = asyncio.Queue[EncodedPacket | None]


class PacketFeed:
    """Hands the packets of one session, at `fps` frames a second, to any number of subscribers.

    Frames are those of the stream. Sound is encoded once more, as Opus, while somebody has subscribed. It is handed on
    at once, ahead of the frame that it goes with: one that is late does not make it late. `publish` and `end` are for
    the session's thread, all else for the event `loop`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fps: Fraction, force_keyframe: Callable[[], None]) -> None:
        self._loop, self._fps, self._force_keyframe = loop, fps, force_keyframe
        self._queues: dict[PacketQueue, Kind] = {}
        self._opus: OpusEncoder | None = None
        self._samples = 0  # of sound, so far
        self._silent_before = Fraction(0)  # the second up to which sound that has not been sent is dropped
        self._ended = False
        self._keyframe_at = -KEYFRAME_INTERVAL_S
        self._keyframe: asyncio.TimerHandle | None = None

    @property
    def subscribers(self) -> int:
        """How many queues are filled."""
        return len(self._queues)

    def subscribe(self, kind: Kind) -> PacketQueue:
        """The packets of one `kind` from now on, and None at the end; for video, a keyframe comes next."""
        queue: PacketQueue = asyncio.Queue(MAX_QUEUED)
        self._queues[queue] = kind
        if self._ended:
            queue.put_nowait(None)
        elif kind == "video":
            self.request_keyframe()
        return queue

    def unsubscribe(self, queue: PacketQueue) -> None:
        """Give `queue` no more."""
        self._queues.pop(queue, None)

    def request_keyframe(self) -> None:
        """Have the next frame be a keyframe, or one that comes soon where one was asked for just now."""
        if self._keyframe is None and not self._ended:
            wait = self._keyframe_at + KEYFRAME_INTERVAL_S - self._loop.time()
            self._keyframe = self._loop.call_later(max(0.0, wait), self._make_keyframe)

    def publish(self, units: Sequence[AccessUnit], sound: Floats) -> None:
        """Take the next access `units`, and the next `sound` ``[channels, n]`` at 48 kHz; never waits."""
        begin, self._samples = self._samples, self._samples + sound.shape[1]
        if not self._queues:
            self._opus = None
            return
        self._opus = self._opus or OpusEncoder(begin)
        heard = [EncodedPacket("audio", data, pts) for data, pts in self._opus.encode(sound)]
        seen = [EncodedPacket("video", unit.data, unit.index / self._fps, unit.keyframe) for unit in units]
        self._call([*heard, *seen])

    def hush(self) -> None:
        """Have the sound that was taken and is not sent yet be silence."""
        self._silent_before = Fraction(self._samples, SOUND_RATE)

    def audible(self, packet: EncodedPacket) -> EncodedPacket:
        """`packet`, as it is to be sent now."""
        silent = packet.kind == "audio" and packet.pts < self._silent_before
        return replace(packet, data=SILENCE) if silent else packet

    def end(self) -> None:
        """Tell every subscriber that nothing more comes."""
        self._call([None])

    def _call(self, packets: Sequence[EncodedPacket | None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self._deliver, packets)

    def _deliver(self, packets: Sequence[EncodedPacket | None]) -> None:
        self._ended = self._ended or None in packets
        for queue, kind in self._queues.items():
            for packet in packets:
                if packet and packet.kind != kind:
                    continue
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(packet)

    def _make_keyframe(self) -> None:
        self._keyframe, self._keyframe_at = None, self._loop.time()
        self._force_keyframe()
