"""Locked work folders of long builds, and the keys of what lies in them."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from musetalk_runtime.core.errors import InvalidArgument

WORK_SCHEMA = 1


def lock_folder(path: Path, busy: str) -> TextIOWrapper:
    """Make the folder `path` if need be and lock it, until the file that this gives is closed.

    Raises InvalidArgument for what is no folder, and, saying `busy`, while another process has locked it; and OSError.
    """
    while (lock := _lock(path, busy)) is None:
        continue
    return lock


def _lock(path: Path, busy: str) -> TextIOWrapper | None:
    """None where whoever had it has removed the folder meanwhile: a lock of what is removed keeps nobody out."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidArgument(f"{path}: expected a folder, and it or what it is to lie in is a file") from None
    try:
        lock = (path / "lock").open("w")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock.fileno()), (path / "lock").stat()):
            return lock
    except BlockingIOError:
        lock.close()
        raise InvalidArgument(f"{busy} by another process: wait for it") from None
    except FileNotFoundError:
        pass
    lock.close()
    return None


def work_key(ingredients: Mapping[str, Any]) -> str:
    """A hash of `ingredients`, which are JSON."""
    text = json.dumps({"schema": WORK_SCHEMA, **ingredients}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
