"""What a stream is written to."""

from typing import Any, Protocol


class Writable(Protocol):
    """Anything whose ``write`` takes all it is given."""

    def write(self, data: bytes, /) -> Any: ...
