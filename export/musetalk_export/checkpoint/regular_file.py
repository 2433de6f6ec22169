"""Regular files: what a config or weights must be before they are opened, and what is often found in their place."""

import os
import stat
from pathlib import Path

from musetalk_runtime.core.errors import InvalidCheckpoint

LFS_START = b"version https://git-lfs.github.com/spec/"
MAX_LFS_BYTES = 1024  # a Git LFS pointer is shorter
PAGE_STARTS = (b"<!doctype html", b"<html")
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_regular(file: Path) -> int:
    """The size of `file` in bytes.

    Raises InvalidCheckpoint unless it is a regular file, or a link to one, that is not empty and holds neither a Git
    LFS pointer nor a web page. Nothing that could wait is opened.
    """
    try:
        found = file.stat()
    except OSError as error:
        reason = "a link that leads nowhere" if file.is_symlink() else error.strerror
        raise InvalidCheckpoint(f"{file}: cannot be read: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in KINDS if test(found.st_mode)), "something else")
        raise InvalidCheckpoint(f"{file}: {kind}, expected a regular file")
    if not found.st_size:
        raise InvalidCheckpoint(f"{file}: is empty: download or copy it again")
    start = _start(file)
    if start.startswith(LFS_START):
        raise InvalidCheckpoint(
            f"{file}: a Git LFS pointer, not the file itself: run 'git lfs pull' where it was cloned, or download it"
        )
    if start.lstrip().lower().startswith(PAGE_STARTS):
        raise InvalidCheckpoint(f"{file}: a web page, not the file itself: download it again")
    return found.st_size


def is_lfs_pointer(file: Path) -> bool:
    """Whether `file` only says where Git LFS has its content."""
    try:
        found = file.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size < MAX_LFS_BYTES and _start(file).startswith(LFS_START)


def _start(file: Path) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(descriptor, MAX_LFS_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidCheckpoint(f"{file}: cannot be read: {error.strerror}") from None
