"""SIGINT and SIGTERM during training, noted so that the run can write a checkpoint before it ends."""

import signal
from types import FrameType
from typing import Any

from musetalk_runtime.cli.command import Terminated
from musetalk_runtime.core.closable import Closable


class StopSignals(Closable):
    """Notes the first SIGINT or SIGTERM in ``received``; the second does what it did before."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def close(self) -> None:
        """Put back the handlers that were there. Closing twice is fine."""
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def end(self) -> None:
        """Raise what ends the command by the signal that came: KeyboardInterrupt or Terminated."""
        raise KeyboardInterrupt if self.received == signal.SIGINT else Terminated(signal.SIGTERM)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self.close()
