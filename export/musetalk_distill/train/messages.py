"""What the package logs, as lines on stderr: stdout holds a command's result alone."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "distill-student"


@contextmanager
def progress_shown() -> Iterator[None]:
    """Within the block, what ``musetalk_distill`` says of its progress is shown."""
    log, handler = logging.getLogger("musetalk_distill"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
