"""The level from which packages log, for a while."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_level(level: int, *packages: str) -> Iterator[None]:
    """Within the block `packages` log from `level` on."""
    logs = [logging.getLogger(package) for package in packages]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(level)
    try:
        yield
    finally:
        for log, before in zip(logs, levels, strict=True):
            log.setLevel(before)
