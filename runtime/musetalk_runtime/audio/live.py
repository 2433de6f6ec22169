"""Live speech from a pipe or an iterable, as raw PCM."""

import os
import select
import threading
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from musetalk_runtime.audio.chunk import AudioChunk, Resampler
from musetalk_runtime.audio.decode.signature import HEAD_BYTES, media_format
from musetalk_runtime.core.errors import InvalidArgument, InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE

MAX_READ_BYTES = 1 << 16  # bytes at once, at most
POLL_INTERVAL_S = 0.1  # seconds between looks for an interruption


class LivePcm:
    """Speech as it is spoken: signed 16-bit little-endian mono PCM at 16 kHz, from an iterable of bytes.

    Chunks may have any length. The iterable ends the stream by ending.
    """

    live = True
    channels = 1

    def __init__(self, pcm: Iterable[bytes]) -> None:
        self.warnings: list[str] = []
        self._pcm = pcm

    def __iter__(self) -> Generator[AudioChunk, None, None]:
        resample = Resampler(channels=1)
        odd = b""
        for data in self._pcm:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise InvalidArgument(f"live speech is PCM bytes, found {type(data).__name__} in it")
            data = odd + bytes(data)  # noqa: PLW2901
            whole = len(data) // 2 * 2
            data, odd = data[:whole], data[whole:]  # noqa: PLW2901
            if not data:
                continue
            samples = np.frombuffer(data, "<i2")[None] / np.float32(32768)
            if chunk := resample(samples, SAMPLE_RATE):
                yield chunk
        if chunk := resample.end():
            yield chunk

    def interrupt(self) -> None:
        """End an iteration that waits in another thread, where the iterable has an ``interrupt`` of its own."""
        if interrupt := getattr(self._pcm, "interrupt", None):
            interrupt()

    def close(self) -> None:
        """Nothing is held."""


class PipeReader:
    """The bytes of a pipe, as they come; `interrupt` from another thread ends the iteration, also a waiting one.

    Iterating raises InvalidMedia where they are a media file, which is no PCM.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._interrupted = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        head = b""
        pieces = self._pieces()
        for data in pieces:
            head += data
            if len(head) >= HEAD_BYTES:
                break
        if found := media_format(head):
            raise InvalidMedia(f"what comes is a {found} file, and no raw PCM: name /dev/stdin, which takes any file")
        yield head
        yield from pieces

    def _pieces(self) -> Iterator[bytes]:
        while not self._interrupted.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], POLL_INTERVAL_S)
            if not ready:
                continue
            data = os.read(self._descriptor, MAX_READ_BYTES)
            if not data:
                return
            yield data

    def interrupt(self) -> None:
        """End the iteration. From any thread; twice is fine."""
        self._interrupted.set()
