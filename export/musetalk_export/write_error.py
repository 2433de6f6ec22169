"""Errors of the libraries that write weights: one kind, which names what cannot be written, and why."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

from safetensors import SafetensorError

from musetalk_runtime.core.errors import MuseTalkEdgeError, OutputError

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)  # torch's is a RuntimeError
LITTLE_BYTES = 1 << 20  # a library's buffer may not fit, and what it would have filled stays free


@contextmanager
def writing(path: Path, work: Path) -> Iterator[None]:
    """Within the block, which only writes into the folder `work`, a write that fails raises OutputError for `path`."""
    try:
        yield
    except WRITE_ERRORS as error:
        if isinstance(error, MuseTalkEdgeError):
            raise
        raise OutputError(f"{path}: cannot be written: {write_reason(error, work)}") from error


def write_reason(error: BaseException, folder: Path) -> str:
    """Why `error` happened when `folder` was written to, and how much room there is."""
    if isinstance(error, OutputError) and error.__cause__ is not None:
        error = error.__cause__
    free = shutil.disk_usage(folder).free
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    if free < LITTLE_BYTES or f"(os error {ENOSPC})" in reason:
        reason = os.strerror(ENOSPC)
    elif isinstance(error, RuntimeError):  # torch, which says at which position it found itself
        reason = "not all of it fits"
    return f"{reason} ({free / 1e6:.0f} MB free)"
