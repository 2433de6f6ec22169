"""Progress of a command on stderr: a line for each record that its packages log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def progress_shown(program: str, *packages: str) -> Iterator[None]:
    """Within the block, what `packages` log from INFO on goes to stderr: stdout holds a command's result alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    logs = [logging.getLogger(package) for package in packages]
    levels = [log.level for log in logs]
    for log in logs:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.removeHandler(handler)
            log.setLevel(level)
