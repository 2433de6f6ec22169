"""A muxer in an encoder process, which another one continues if that one ends."""

import socket
from collections import deque
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Bytes, Floats
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import BEGINNING, Muxer, StreamStart, Writable
from musetalk_runtime.output.processes import encoder_process
from musetalk_runtime.output.processes.encoder_pool import EncoderPool
from musetalk_runtime.output.processes.encoder_process import EncoderProcess
from musetalk_runtime.output.processes.messages import END, FRAME, NOT_SHARED, REPLY, REQUEST, Opening
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions

AAC_SAMPLES = 1024  # of a packet
KEPT_SOUNDS = 60  # frames' sound, of which what may be lost is a part
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
    """Encodes and muxes in a process of `pool`, to `target`. See ``Muxer``.

    If the process ends, another one goes on with the first frame that is in no fragment yet, a keyframe: the stream has
    all frames and all times. Raises MachineError if that fails again and again.
    """

    encoder = "x264"

    def __init__(
        self, pool: EncoderPool, process: EncoderProcess, target: Writable, opening: Opening, timings: Timings
    ) -> None:
        self._pool, self._target, self._opening, self._timings = pool, target, opening, timings
        self._pending: list[_Pending] = []
        self._sounds: deque[Floats] = deque(maxlen=KEPT_SOUNDS)  # the newest
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

    def put(self, frame: Frame, keyframe: bool = False, kbps: int | None = None) -> list[AccessUnit]:
        """See ``Muxer.put``; where another process goes on, it gives those again that may be lost."""
        self._kbps = kbps or self._kbps
        with self._timings.measure("encode"):
            self._sounds.append(frame.sound)
            self._sent += frame.sound.shape[1]
            pending = _Pending(frame.index, self._pool.frames.shared(frame.nv12), self._sent, keyframe)
            self._pending.append(pending)
            try:
                return [self._encode(pending, frame.sound)]
            except _Ended:
                return self._restart()

    def _end(self) -> None:
        for _ in range(MAX_ATTEMPTS):
            try:
                written, _ = self._ask(REQUEST.pack(END, False, 0, NOT_SHARED, 0, 0, 0))
                self._target.write(written)
                return
            except _Ended:
                self._restart()

    def _restart(self) -> list[AccessUnit]:
        """Go on in another process with all frames that may be lost; gives them."""
        for _ in range(MAX_ATTEMPTS):
            if self._process:  # it has ended, or hangs
                self._process.kill()
            self._disconnect()
            self._process = process = self._pool.wait()
            first = self._pending[0].index if self._pending else 0
            sample = min(self._sent, first_sample(first, self._opening.picture))
            try:
                self._connect(process, StreamStart(first, sample))
                units = []
                for pending in list(self._pending):
                    units.append(self._encode(pending, self._between(sample, pending.sound_end)))
                    sample = max(sample, pending.sound_end)
                return units
            except _Ended:
                continue
        raise MachineError(f"{MAX_ATTEMPTS} encoder processes ended one after the other")

    def _connect(self, process: EncoderProcess, start: StreamStart) -> None:
        try:
            self._socket = process.connect()
        except OSError as error:
            raise _Ended from error
        opening = self._opening
        continued = Opening(opening.container, opening.picture, opening.channels, opening.options, start)
        head, _ = self._ask(continued.to_bytes())
        self._socket.settimeout(encoder_process.STALL_TIMEOUT_S)  # it has started
        if not self._begun:
            self._begun = True
            self._target.write(head)

    def _encode(self, pending: _Pending, sound: Floats) -> AccessUnit:
        offset = self._pool.frames.offset(pending.nv12)
        data = b"" if offset is not None else pending.nv12.tobytes()
        place = NOT_SHARED if offset is None else offset
        head = REQUEST.pack(FRAME, pending.keyframe, pending.index, place, len(data), sound.shape[1], self._kbps)
        written, unit = self._ask(head, data, np.ascontiguousarray(sound).tobytes())
        self._target.write(written)
        return AccessUnit(pending.index, *unit)

    def _ask(self, *request: bytes) -> tuple[bytes, tuple[bytes, bool]]:
        """Send `request`, and give the reply: bytes of the stream, an access unit, and whether it is a keyframe."""
        assert self._socket  # noqa: S101 - it is connected
        try:
            self._socket.sendall(b"".join(request))
            self._read(0, REPLY.size)
            well, size, unfinished, unit_size, keyframe = REPLY.unpack_from(self._buffer)
            begin, end = REPLY.size + size, REPLY.size + size + unit_size
            self._read(self._received, end)
            data, unit = bytes(self._buffer[REPLY.size : begin]), bytes(self._buffer[begin:end])
        except OSError as error:
            raise _Ended from error
        if not well:
            raise MachineError(data.decode())
        self._pending = [pending for pending in self._pending if pending.index >= unfinished]
        return data, (unit, keyframe)

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


def first_sample(index: int, picture: Picture) -> int:
    """The first sample of the first AAC packet after frame `index` begins: that before it is in a fragment already."""
    return (int(index * SOUND_RATE / picture.fps) // AAC_SAMPLES + 1) * AAC_SAMPLES if index else 0
