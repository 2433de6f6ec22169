"""A muxer in an encoder process, which goes on in another process if that one ends."""

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from musetalk_runtime.core.arrays import Bytes, Floats
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import BEGINNING, Muxer, StreamStart
from musetalk_runtime.output.processes import encoder_process
from musetalk_runtime.output.processes.encoder_pool import EncoderPool
from musetalk_runtime.output.processes.encoder_process import EncoderProcess
from musetalk_runtime.output.processes.messages import END, FRAME, NOT_SHARED, REPLY, REQUEST, Opening, Reply
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions
from musetalk_runtime.output.writable import Writable

KEPT_SOUNDS = 60  # frames' sound, of which what may be lost is a part
AAC_SAMPLES = 1024  # of a packet
HEARD_PACKETS = 3  # of sound that another process hears again, so that its encoder has settled
MOST_TOGETHER = 16  # frames sent at once: their sound is kept, and the process encodes others' in turn
REPLY_BYTES = 1 << 18  # that most replies fit into
MAX_ATTEMPTS = 5  # processes tried one after the other, all of which ended


@dataclass(frozen=True)
class _Pending:
    """A frame that may be in no fragment yet, and the sound up to the sample `sound_end`."""

    index: int
    nv12: Bytes
    sound_end: int
    keyframe: bool


class _Ended(Exception):
    """The process has ended, or hangs."""


class RemoteMuxer:
    """Encodes and muxes in a process of `pool`, to `target`. See ``Muxer``. Frames that are there at once go together.

    If the process ends, another one goes on with the first frame that is in no fragment yet, a keyframe: the stream has
    all frames and all times. A process that has many more sessions than another one is left in the same way. Raises
    MachineError if that fails again and again.
    """

    encoder = "x264"

    def __init__(
        self, pool: EncoderPool, process: EncoderProcess, target: Writable, opening: Opening, timings: Timings
    ) -> None:
        self._pool, self._target, self._opening, self._timings = pool, target, opening, timings
        self._pending: list[_Pending] = []
        self._kept: list[tuple[_Pending, Floats]] = []  # with its sound: put, and not sent yet
        self._unwritten = BEGINNING  # what is in no fragment yet
        self._owed = np.empty((opening.channels, 0), np.float32)  # sound of frames that are in a fragment, without it
        self._sounds = deque([self._owed], maxlen=KEPT_SOUNDS)  # the newest
        self._sent = 0  # samples
        self._kbps = 0  # of the video; 0: as it was opened
        self._buffer, self._received = bytearray(REPLY_BYTES), 0  # of a reply
        self._begun = False
        self._process: EncoderProcess | None = process
        self._socket: socket.socket | None = None
        try:
            try:
                self._connect(process, BEGINNING)
            except _Ended:
                self._restart()
        except BaseException:
            self._disconnect()
            raise

    def __enter__(self) -> "RemoteMuxer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None or kind is GeneratorExit:
                self._end()
        finally:
            self._disconnect()

    def put(
        self, frame: Frame, keyframe: bool = False, kbps: int | None = None, more: bool = False
    ) -> Sequence[AccessUnit]:
        """See ``FrameMuxer.put``; where another process goes on, it gives those again that may be lost."""
        self._kbps = kbps or self._kbps
        self._sounds.append(frame.sound)
        self._sent += frame.sound.shape[1]
        pending = _Pending(frame.index, self._pool.frames.shared(frame.nv12), self._sent, keyframe)
        self._pending.append(pending)
        self._kept.append((pending, frame.sound))
        return [] if more and len(self._kept) < MOST_TOGETHER else self._send()

    def _send(self) -> Sequence[AccessUnit]:
        """Send what is kept; gives what is encoded."""
        kept, self._kept = self._kept, []
        with self._timings.measure("encode", len(kept)):
            try:
                if process := self._relief(len(kept)):
                    self._disconnect()
                    return self._go_on(process)
                return self._encode(kept)
            except _Ended:
                return self._restart()

    def _end(self) -> None:
        if self._kept:
            self._send()
        for _ in range(MAX_ATTEMPTS):
            try:
                owed = np.ascontiguousarray(self._owed)
                self._ask(REQUEST.pack(END, False, False, 0, NOT_SHARED, 0, owed.shape[1], 0), owed.tobytes())
                return
            except _Ended:
                self._restart()

    def _restart(self) -> Sequence[AccessUnit]:
        """Go on in another process with all frames that may be lost; gives them."""
        for _ in range(MAX_ATTEMPTS):
            if self._process:  # it has ended, or hangs
                self._process.kill()
            self._disconnect()
            try:
                return self._go_on(self._pool.wait())
            except _Ended:
                continue
        raise MachineError(f"{MAX_ATTEMPTS} encoder processes ended one after the other")

    def _relief(self, kept: int) -> EncoderProcess | None:
        """A process with fewer sessions to go on in, if all frames but those `kept` are in fragments."""
        return self._pool.relief(self._process) if self._process and len(self._pending) == kept else None

    def _go_on(self, process: EncoderProcess) -> Sequence[AccessUnit]:
        """Go on in `process` with all frames that are in no fragment; gives them."""
        self._process = process
        start = replace(self._unwritten, heard=self._heard())
        self._connect(process, start)
        sample = start.sample - start.heard
        frames: list[tuple[_Pending, Floats]] = []
        for pending in self._pending:
            frames.append((pending, self._between(sample, pending.sound_end)))
            sample = max(sample, pending.sound_end)
        self._owed = self._between(sample, self._sent)
        return self._encode(frames) if frames else []

    def _connect(self, process: EncoderProcess, start: StreamStart) -> None:
        try:
            self._socket = process.connect()
        except OSError as error:
            raise _Ended from error
        opening = self._opening
        continued = Opening(opening.container, opening.picture, opening.channels, opening.options, start)
        reply = self._exchange(continued.to_bytes())
        self._socket.settimeout(encoder_process.STALL_TIMEOUT_S)  # it has started
        if not self._begun:
            self._begun = True
            self._target.write(reply.stream)

    def _encode(self, frames: list[tuple[_Pending, Floats]]) -> Sequence[AccessUnit]:
        """Have all of `frames` encoded, each with its sound, and write what there is of the stream."""
        request: list[bytes | memoryview] = []
        last = frames[-1][0]
        for pending, sound in frames:
            offset = self._pool.frames.offset(pending.nv12)
            data = b"" if offset is not None else pending.nv12.tobytes()
            place, more = NOT_SHARED if offset is None else offset, pending is not last
            about = pending.keyframe, pending.index, place, len(data), sound.shape[1], self._kbps
            request += [REQUEST.pack(FRAME, more, *about), data, *(np.ascontiguousarray(row).data for row in sound)]
        return self._ask(*request)

    def _ask(self, *request: bytes | memoryview) -> Sequence[AccessUnit]:
        """Send `request`, and write the stream that the reply holds; gives its access units."""
        reply = self._exchange(*request)
        self._unwritten = reply.unwritten
        self._pending = [pending for pending in self._pending if pending.index >= reply.unwritten.frame]
        self._target.write(reply.stream)
        return reply.units

    def _exchange(self, *request: bytes | memoryview) -> Reply:
        assert self._socket  # noqa: S101 - it is connected
        try:
            self._socket.sendall(b"".join(request))
            self._read(0, REPLY.size)
            _, _, size, *_ = REPLY.unpack_from(self._buffer)
            self._read(self._received, REPLY.size + size)
        except OSError as error:
            raise _Ended from error
        with memoryview(self._buffer) as view:
            reply = Reply.from_bytes(view)
        if not reply.well:
            raise MachineError(reply.stream.decode())
        return reply

    def _read(self, received: int, size: int) -> None:
        """Have `size` bytes of the reply in the buffer, `received` of which are there. Each call waits for the lock."""
        assert self._socket  # noqa: S101 - it is connected
        if size > len(self._buffer):
            self._buffer += bytes(size - len(self._buffer))
        with memoryview(self._buffer) as view:
            while received < size:
                if not (count := self._socket.recv_into(view[received:])):
                    raise _Ended
                received += count
        self._received = received

    def _heard(self) -> int:
        """Samples before those that are in no fragment, of which the sound is still there."""
        begins = self._sent - sum(sound.shape[1] for sound in self._sounds)
        return max(0, min(HEARD_PACKETS, (self._unwritten.sample - begins) // AAC_SAMPLES)) * AAC_SAMPLES

    def _between(self, first: int, end: int) -> Floats:
        """The sound from sample `first` to `end`."""
        sound = np.concatenate(self._sounds, axis=1)
        start = self._sent - sound.shape[1]
        return sound[:, max(0, first - start) : max(0, end - start)]

    def _disconnect(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._process:
            self._pool.release(self._process)
            self._process = None


def open_muxer(
    pool: EncoderPool,
    target: Writable,
    container: str,
    picture: Picture,
    channels: int,
    options: VideoOptions,
    timings: Timings,
) -> Muxer | RemoteMuxer:
    """A muxer in a process of `pool`, or here while none is ready. See ``Muxer``."""
    if process := pool.acquire():
        options = replace(options, encoder="x264")
        return RemoteMuxer(pool, process, target, Opening(container, picture, channels, options, BEGINNING), timings)
    return Muxer(target, container, picture, channels, options, timings)
