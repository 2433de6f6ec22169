"""The feed of a session's encoded frames and sound, for WebRTC."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Floats

MAX_QUEUED = 512  # packets that wait for a slow subscriber; then the oldest are dropped
OPUS_BITS = 64_000  # a second
OPUS_OPTIONS = {"application": "lowdelay", "frame_duration": "20"}
SEQUENCE_PARAMETERS = 7  # an H.264 NAL unit's type

Kind = Literal["video", "audio"]


@dataclass(frozen=True)
class EncodedPacket:
    """An H.264 access unit in Annex B, or an Opus packet; ``pts`` in seconds of the stream."""

    kind: Kind
    data: bytes
    pts: Fraction
    keyframe: bool = False


class PacketFeed:
    """Hands the packets of one session to any number of subscribers. `publish` and `end` are for the session's thread,
    `subscribe` is for the event `loop`.

    Frames are those of the stream. Sound is encoded once more, as Opus, while somebody has subscribed; then
    `force_keyframe` is called, so that the newcomer can begin.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, force_keyframe: Callable[[], None]) -> None:
        self._loop, self._force_keyframe = loop, force_keyframe
        self._queues: set[asyncio.Queue[EncodedPacket | None]] = set()
        self._opus: OpusEncoder | None = None
        self._samples = 0  # of sound, so far
        self._ended = False

    @contextmanager
    def subscribe(self) -> Iterator["asyncio.Queue[EncodedPacket | None]"]:
        """The packets from now on, and None at the end."""
        queue: asyncio.Queue[EncodedPacket | None] = asyncio.Queue(MAX_QUEUED)
        self._queues.add(queue)
        if self._ended:
            queue.put_nowait(None)
        self._force_keyframe()
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def publish(self, packets: Sequence[Any], sound: Floats) -> None:
        """Take PyAV's `packets` of video, and the next `sound` ``[channels, n]`` at 48 kHz; never waits."""
        begin, self._samples = self._samples, self._samples + sound.shape[1]
        if not self._queues:
            self._opus = None
            return
        self._opus = self._opus or OpusEncoder(begin)
        found = [EncodedPacket("audio", data, pts) for data, pts in self._opus.encode(sound)]
        found += [
            EncodedPacket("video", _annex_b(packet), packet.pts * packet.time_base, packet.is_keyframe)
            for packet in packets
        ]
        self._call(found)

    def end(self) -> None:
        """Tell every subscriber that nothing more comes."""
        self._call([None])

    def _call(self, packets: Sequence[EncodedPacket | None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self._deliver, packets)

    def _deliver(self, packets: Sequence[EncodedPacket | None]) -> None:
        self._ended = self._ended or None in packets
        for queue in self._queues:
            for packet in packets:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(packet)


class OpusEncoder:
    """Encodes sound from sample `begin` of the stream on, in packets of 20 ms."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._samples = 0
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = SOUND_RATE, "stereo", "flt"
        context.bit_rate, context.options = OPUS_BITS, OPUS_OPTIONS
        self._context = context

    def encode(self, sound: Floats) -> list[tuple[bytes, Fraction]]:
        """The packets that the next `sound` ``[channels, n]`` completes, and their times in seconds."""
        if not sound.shape[1]:
            return []
        both = np.broadcast_to(sound, (2, sound.shape[1])).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(both).reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, self._samples
        self._samples += sound.shape[1]
        packets = self._context.encode(frame)
        return [(bytes(packet), Fraction(self._begin + packet.pts, SOUND_RATE)) for packet in packets]


def _annex_b(packet: Any) -> bytes:
    """An access unit of libx264 or NVENC; a keyframe with the parameter sets that the MP4 has in its head."""
    data = bytes(packet)
    parameters = packet.stream.codec_context.extradata if packet.is_keyframe else None
    begins = data.find(b"\0\0\1") + 3
    if parameters and data[begins] & 0x1F != SEQUENCE_PARAMETERS:
        return bytes(parameters) + data
    return data
