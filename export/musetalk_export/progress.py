"""Progress of a command on stderr: a line for each record that its packages log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from musetalk_export.log_level import log_level


@contextmanager
def progress_shown(program: str, *packages: str) -> Iterator[None]:
    """Within the block, what `packages` log from INFO on goes to stderr: stdout holds a command's result alone.

    A warning is shown once, however often a command reads the checkpoint that it is about.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WarnOnce())
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    logs = [logging.getLogger(package) for package in packages]
    for log in logs:
        log.addHandler(handler)
    try:
        with log_level(logging.INFO, *packages):
            yield
    finally:
        for log in logs:
            log.removeHandler(handler)


class _WarnOnce(logging.Filter):
    """Lets each text of a warning through once."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        new = text not in self._shown
        self._shown.add(text)
        return new
