"""The trial start of a new version: it is proven, or rolled back."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder, MachineError
from musetalk_runtime.update.versions import Versions

T = TypeVar("T")
log = logging.getLogger(__name__)


@contextmanager
def trial(paths: Iterable[Path]) -> Iterator[None]:
    """Start with the bundles and avatars at `paths` in the block; some may be the current ones of ``Versions``.

    Those that have never started well are proven when the block ends. When it raises they are rolled back, and
    MachineError says so; when process after process died in it, they are rolled back before it. What a command line got
    wrong and what a disk refuses is not their fault; that they cannot be read is.
    """
    folders = [versions for path in paths if (versions := Versions.of(path)) and versions.on_trial]
    for versions in folders:
        if news := _noted(versions, versions.starting):
            log.warning("%s", news)
    tried = [(versions, number) for versions in folders if (number := versions.on_trial)]
    try:
        yield
    except Exception as error:
        if isinstance(error, (InvalidArgument, OSError)) and not _closed_to_us(error, folders):
            raise
        if back := list(filter(None, (_back(versions) for versions, number in tried if versions.on_trial == number))):
            raise MachineError(f"{error}: rolled back {', '.join(back)}: start again") from error
        raise
    for versions, number in tried:
        _noted(versions, partial(versions.started, number))


def _closed_to_us(error: Exception, folders: list[Versions]) -> bool:
    """Whether a version in `folders` cannot be read by this user."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return False
    return any(Path(error.filename).is_relative_to(versions.path) for versions in folders)


def _back(versions: Versions) -> str | None:
    try:
        number = _noted(versions, versions.roll_back)
    except InvalidFolder as error:
        log.warning("%s", error)
        return None
    return None if number is None else f"{versions.path} to version {number}"


def _noted(versions: Versions, note: Callable[[], T]) -> T | None:
    """What `note` gives, or None where it cannot be: while another process is at it, or on a read-only disk."""
    try:
        return note()
    except (InvalidArgument, OSError) as error:
        log.warning("%s: the start of a new version was not noted: %s", versions.path, error)
        return None
