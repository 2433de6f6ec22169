"""Sinks for the bytes of a stream: pipes and files. Every sink writes all it is given."""

import os
import select
import stat
import threading
import time
from pathlib import Path
from types import TracebackType

from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.output_file import OutputFile

MAX_WRITE_BYTES = 4096  # bytes a pipe that polls as writable takes without blocking (PIPE_BUF)
POLL_INTERVAL_S = 0.1  # seconds between looks at the stop signal
STALLED_READER_TIMEOUT_S = 2.0  # seconds a stalled reader is waited for once the stream is to stop


class PipeSink:
    """A pipe, FIFO, socket or terminal. A reader that stalls makes `write` wait, one that went away raises
    BrokenPipeError; another failure is an OutputError, which says `name`. Once `stopping` is set, a reader that takes
    nothing for 2 s is given up.
    """

    def __init__(self, name: str, descriptor: int, stopping: threading.Event) -> None:
        self._name = name
        self._descriptor = descriptor
        self._stopping = stopping
        self._given_up = False

    def __enter__(self) -> "PipeSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor > 2:
            os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view and self._wait():
                view = view[os.write(self._descriptor, view[:MAX_WRITE_BYTES]) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written: {error.strerror}") from None

    def _wait(self) -> bool:
        """Wait until something can be written; False once that is given up."""
        deadline = None
        while not self._given_up:
            _, ready, _ = select.select([], [self._descriptor], [], POLL_INTERVAL_S)
            if ready:
                return True
            if self._stopping.is_set():
                deadline = deadline or time.monotonic() + STALLED_READER_TIMEOUT_S
                self._given_up = time.monotonic() > deadline
        return False


def open_sink(target: str, stopping: threading.Event) -> OutputFile | PipeSink:
    """The sink that `target` names: ``-`` for stdout, a FIFO, device or open file, else a regular file."""
    if target == "-":
        return PipeSink("stdout", 1, stopping)
    path = Path(target)
    if path.is_dir() or target.endswith("/"):
        raise OutputError(f"{path}: is a folder: name a file in it")
    place = Destination(path)
    if place.found is None or stat.S_ISREG(place.found.st_mode):
        return OutputFile(path)
    if place.descriptor is not None:
        return PipeSink(target, place.duplicate(), stopping)
    return PipeSink(target, _open_for_writing(path, stopping), stopping)


def _open_for_writing(path: Path, stopping: threading.Event) -> int:
    """Open a FIFO once it has a reader."""
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            waits_for_reader = stat.S_ISFIFO(path.stat().st_mode) and not stopping.is_set()
            if not waits_for_reader or isinstance(error, PermissionError):
                raise OutputError(f"{path}: cannot be opened: {error.strerror}") from None
            stopping.wait(POLL_INTERVAL_S)
            continue
        os.set_blocking(descriptor, True)
        return descriptor
