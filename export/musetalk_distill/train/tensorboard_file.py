"""TensorBoard's event file: scalars by name and step, written at once and not by a thread that may have died."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from musetalk_runtime.core.closable import Closable

VERSION = "brain.Event:2"


class TensorBoardFile(Closable):
    """A new event file in `folder`, for what comes after `done` steps: TensorBoard drops older scalars of later ones.

    Opening and `add` raise OSError, as on a full disk.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._event = Event
        self._writer = RecordWriter(str(folder / name))
        try:
            self._write(file_version=VERSION)
            if done:
                self._write(step=done + 1, session_log=SessionLog(status=SessionLog.START))
            self._writer.flush()
        except OSError:
            self.close()
            raise

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the `scalars` of `step`."""
        from tensorboardX.summary import scalar

        for name, value in scalars.items():
            self._write(step=step, summary=scalar(name, value))
        self._writer.flush()

    def close(self) -> None:
        """Closing twice is fine. What a full disk did not take is lost: `add` has raised for it."""
        with suppress(OSError, ValueError):  # ValueError where it is closed already
            self._writer.close()

    def _write(self, **content: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **content).SerializeToString())
