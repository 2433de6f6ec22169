"""Durable writing: after a power cut there is the old content or the new, whole."""

import ctypes
import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2
MAX_STEM_BYTES = 200
ABANDONED_AFTER_S = 10.0  # seconds after which a folder that nobody holds is nobody's


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` everything in `folder`, and itself."""
    for above, _, files in os.walk(folder):
        for name in files:
            sync(Path(above, name))
        sync(Path(above))


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step whatever it pointed to."""
    aside = link.with_name(f".{link.name}.partial")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(link)
    sync(link.parent)


def put_folder(work: Path, path: Path) -> None:
    """Move the folder `work` to `path`, whose former content, if any, is removed; all of it is on disk afterwards.

    In one step where the file system can exchange two folders, as ext4, XFS, Btrfs, F2FS and tmpfs can; else `path` is
    missing for a moment.
    """
    sync_tree(work)
    if not os.path.lexists(path):
        work.rename(path)
    elif exchange(work, path):
        remove(work)
    else:
        old = work.with_suffix(".old")
        path.rename(old)
        try:
            work.rename(path)
        except OSError:
            old.rename(path)
            raise
        remove(old)
    sync(path.parent)


def aside_stem(path: Path) -> str:
    """What the name of anything written aside for `path` begins with: a name has at most 255 bytes."""
    return "." + os.fsdecode(os.fsencode(path.name)[:MAX_STEM_BYTES])


def hold(folder: Path, shared: bool = False) -> int:
    """Keep others from removing `folder` by `remove_free` while the descriptor that this gives is open."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    with suppress(OSError):  # some network file systems lock no folders: there, only age protects it
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    return descriptor


def sweep(above: Path, pattern: str) -> None:
    """Remove the files and folders in `above` whose makers were killed: old enough, and held by nobody."""
    for path in above.glob(pattern):
        with suppress(OSError):
            if not path.is_symlink() and time.time() - path.stat().st_mtime >= ABANDONED_AFTER_S:
                remove_free(path)


def remove_free(path: Path) -> None:
    """Remove a file or folder; raises OSError where somebody holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            remove(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder or a link to one, as far as that goes."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where that is not possible."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other)
    return int(renameat2(*paths, ctypes.c_uint(RENAME_EXCHANGE))) == 0
