"""Output files that a user named, written aside and renamed where that is possible."""

import errno
import fcntl
import glob
import io
import os
import secrets
import select
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.durable import aside_stem, sweep, sync

NOT_IN_THIS_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)  # the last for a file mounted by itself


class OutputFile:
    """The file that `path` leads to, links followed; `write` takes all it is given.

    A regular file, or one to be, is written aside and renamed when the ``with`` block ends without an error: a power
    cut leaves the old or the new one, whole, and an error the old one or none. One that is replaced keeps its
    permission bits, unless `mode` gives others. What cannot be replaced so is written in place, and an error leaves it
    half written: an open file of this process (/dev/stdout, /dev/fd/3), which is written from where it stands, a FIFO
    or device, and a file in a folder that takes no new one.

    Raises OutputError, which names `path`, and BrokenPipeError when a reader went away.
    """

    def __init__(self, path: Path, mode: int | None = None) -> None:
        self.path = path
        self._aside: Path | None = None
        self._place = Destination(path)
        with self._named():
            self._file = self._open(mode)

    def __enter__(self) -> "OutputFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._named():
                if kind is None and self._aside:
                    self._put(self._aside)
                self._file.close()
        finally:
            with suppress(OSError):
                self._file.close()
            if self._aside:
                self._aside.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._named():
            while view:
                written = self._file.write(view)
                if written is None:  # a pipe that does not block, and is full
                    select.select([], [self._file], [])
                view = view[written or 0 :]

    def _open(self, mode: int | None) -> io.FileIO:
        if self._place.descriptor is not None:
            return io.FileIO(self._place.duplicate(), "wb")
        if self._place.plain:
            try:
                return self._open_aside(mode)
            except OSError as error:
                if self._place.found is None or error.errno not in NOT_IN_THIS_FOLDER:
                    raise
        return self._open_in_place(mode)

    def _open_aside(self, mode: int | None) -> io.FileIO:
        path, old = self._place.path, self._place.found
        stem = aside_stem(path)
        with suppress(OSError):  # of a folder that may not be read
            sweep(path.parent, f"{glob.escape(stem)}.*.partial")
        aside = path.with_name(f"{stem}.{secrets.token_hex(4)}.partial")
        bits = stat.S_IMODE(old.st_mode) & 0o777 if mode is None and old else mode
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if bits is None else bits)
        self._aside = aside
        with suppress(OSError):  # some network file systems lock nothing: there, only age protects it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if old:
            with suppress(OSError):  # only root may give a file away
                os.fchown(descriptor, old.st_uid, old.st_gid)
        if bits is not None:
            with suppress(OSError):  # some file systems have no such bits
                os.fchmod(descriptor, bits)
        return io.FileIO(descriptor, "wb")

    def _open_in_place(self, mode: int | None) -> io.FileIO:
        create = 0 if self._place.found else os.O_CREAT
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | create
        return io.FileIO(os.open(self._place.path, flags, 0o666 if mode is None else mode), "wb")

    def _put(self, aside: Path) -> None:
        os.fsync(self._file.fileno())
        path = self._place.path
        try:
            aside.replace(path)
        except OSError as error:
            if self._place.found is None or error.errno not in NOT_IN_THIS_FOLDER:
                raise
            with aside.open("rb") as whole, io.BufferedWriter(self._open_in_place(None)) as file:
                shutil.copyfileobj(whole, file)
        with suppress(OSError):  # of a folder that may not be read
            sync(path.parent)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (BrokenPipeError, OutputError):
            raise
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from None


def write_output(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """Make `content`, text as UTF-8, that of the `OutputFile` at `path`."""
    with OutputFile(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)
