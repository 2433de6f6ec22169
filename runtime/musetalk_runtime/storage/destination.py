"""The destination of an output: what the path that a user named leads to, and whether it may be replaced."""

import errno
import fcntl
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from musetalk_runtime.core.errors import InvalidArgument, OutputError

MAX_LINKS = 40  # that Linux follows in one path
DEVICES, PROCESSES, MEMORY = "/dev", "/proc", "/dev/shm"  # noqa: S108


class Destination:
    """What `path` leads to once its links are followed. Raises OutputError for links in a loop, or out of reach.

    ``path``: where the last link leads. ``found``: the status of what is there, None for nothing. ``descriptor``: the
    open file of this process that /dev/stdout, /dev/fd/3 and the like stand for, else None. ``replaceable``: it lies
    outside /dev and /proc, where nothing may be renamed over. ``plain``: it is replaceable, and a regular file or
    nothing yet. A plain file is written aside and renamed, everything else in place.
    """

    def __init__(self, path: Path) -> None:
        self._named = path
        try:
            self.found = _status(path)
            # The text of a link in /proc is a name that an open file had: only the kernel can follow it.
            self.path = next(step for step in followed(path) if _is_in(PROCESSES, step) or not step.is_symlink())
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
        self.descriptor = _descriptor(self.path)
        in_devices = _is_in(DEVICES, self.path) and not _is_in(MEMORY, self.path)
        self.replaceable = not in_devices and not _is_in(PROCESSES, self.path)
        self.plain = self.replaceable and (self.found is None or stat.S_ISREG(self.found.st_mode))

    def duplicate(self) -> int:
        """The open file that `descriptor` is, once more: at its offset, after what this process printed to it.

        Raises OutputError if it is not open for writing.
        """
        number = self.descriptor if self.descriptor is not None else -1
        try:
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OutputError(f"{self._named}: is open for reading only")
            if number == 1:
                sys.stdout.flush()
            return os.dup(number)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self._named}: cannot be written: {error.strerror}") from None


def check_distinct(*named: tuple[str, Path]) -> None:
    """Raise InvalidArgument where two of the files, each after what names it, are one: the second would replace it."""
    seen: dict[object, str] = {}
    for name, path in named:
        place = Destination(path)
        found = place.found
        key: object = (found.st_dev, found.st_ino) if found else os.path.realpath(place.path)
        if place.plain and key in seen:
            raise InvalidArgument(f"{name} {path}: is the same file as {seen[key]}: name another")
        seen[key] = name


def followed(path: Path) -> Iterator[Path]:
    """`path`, then what it links to if it is a link, and so on; raises OSError."""
    for _ in range(MAX_LINKS + 1):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_in(folder: str, path: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(folder)


def _descriptor(path: Path) -> int | None:
    """The number that `path` is in a folder of this process' open files."""
    own = re.escape(os.path.realpath("/proc/self"))
    ours = re.fullmatch(rf"{own}(/task/\d+)?/fd", os.path.realpath(path.parent))
    return int(path.name) if ours and re.fullmatch("[0-9]{1,9}", path.name) else None
