"""A decoder of a live fragmented MP4: pictures and sound, as soon as their bytes are there."""

import queue
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from musetalk_runtime.core.arrays import NV12, Floats
from musetalk_runtime.core.closable import Closable

PROBE = {"probesize": "32", "analyzeduration": "0"}  # the head tells all

OnPicture = Callable[[Fraction, NV12], None]
OnSound = Callable[[int, Floats], None]


class StreamDecoder(Closable):
    """Decodes what it is fed, in a thread, which calls:

    `on_picture` with the time in seconds and the picture, NV12; `on_sound` with the first sample's number and mono
    samples ``[n]`` at the stream's rate; and in the end `on_end` with what went wrong, or None.
    """

    def __init__(self, on_picture: OnPicture, on_sound: OnSound, on_end: Callable[[Exception | None], None]) -> None:
        self._on_picture, self._on_sound, self._on_end = on_picture, on_sound, on_end
        self._bytes = ByteQueue()
        self._thread = threading.Thread(target=self._run, name="stream decoder", daemon=True)
        self._thread.start()

    def feed(self, data: bytes) -> None:
        """Decode `data` next; nothing is the end."""
        self._bytes.put(data)

    def close(self) -> None:
        """End it. Twice is fine."""
        self._bytes.put(b"")
        self._thread.join()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._decode()
        except (av.FFmpegError, OSError, ValueError) as caught:
            error = caught
        self._on_end(error)

    def _decode(self) -> None:
        with av.open(self._bytes, "r", format="mp4", options=PROBE) as container:
            for stream in container.streams.video:  # else a frame comes out once the next ones are in
                stream.thread_count = 1
            for packet in container.demux():
                for frame in packet.decode():
                    self._hand_on(frame)

    def _hand_on(self, frame: Any) -> None:
        if frame.pts is None:
            return
        if isinstance(frame, av.VideoFrame):
            picture: Any = frame.reformat(format="nv12").to_ndarray()
            self._on_picture(frame.pts * Fraction(frame.time_base or 0), picture)
        else:
            first = round(frame.pts * Fraction(frame.time_base) * frame.sample_rate)
            self._on_sound(first, np.asarray(frame.to_ndarray().mean(axis=0), np.float32))


class ByteQueue:
    """A file whose bytes are put by another thread; nothing put is its end."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._left = b""
        self._ended = False

    def put(self, data: bytes) -> None:
        """Have it read `data` next."""
        self._pieces.put(data)

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, as soon as there are any."""
        if not self._left and not self._ended:
            self._left = self._pieces.get()
            self._ended = not self._left
        data, self._left = self._left[:count], self._left[count:]
        return data
