"""A status line on stderr that shows a command's progress."""

import sys
import time
from math import inf

from musetalk_runtime.core.closable import Closable

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 5.0


class StatusLine(Closable):
    """Rewrites one line on a terminal; elsewhere writes a line now and then, or none if `terminal_only`."""

    def __init__(self, terminal_only: bool = False) -> None:
        self._terminal = sys.stderr.isatty()
        self._pause = TERMINAL_SECONDS if self._terminal else inf if terminal_only else LOG_SECONDS
        self._due = time.monotonic() + (0 if self._terminal else self._pause)
        self._shown = False

    def update(self, text: str) -> None:
        """Show `text`, unless the last was shown a moment ago."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._pause
        print(f"\r\x1b[K{text}" if self._terminal else f"{text}\n", end="", file=sys.stderr, flush=True)
        self._shown = True

    def close(self) -> None:
        """Clear the line from the terminal. Closing twice is fine."""
        if self._terminal and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = False
