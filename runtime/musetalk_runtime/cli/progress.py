"""One line on stderr that says how far a command has come."""

import sys
import time
from typing import TextIO

from musetalk_runtime.closable import Closable

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 5.0


class StatusLine(Closable):
    """Rewrites one line on a terminal; elsewhere writes a line now and then, so that a log stays short."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._due = time.monotonic() + (0 if self._terminal else LOG_SECONDS)
        self._shown = False

    def update(self, text: str) -> None:
        """Show `text`, unless the last was shown a moment ago."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + (TERMINAL_SECONDS if self._terminal else LOG_SECONDS)
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown = True

    def close(self) -> None:
        """Clear the line from the terminal. Closing twice is fine."""
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._shown = False
