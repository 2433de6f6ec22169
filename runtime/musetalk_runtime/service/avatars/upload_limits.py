"""What uploads may cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """`upload` and `total` are bytes, of one upload and of all that is kept; `count` avatars; an upload may take
    `patience` seconds, its preparation `seconds` of time and of one core, and `memory` bytes; of a video `length`
    seconds are used, its frames scaled down to `side` pixels.
    """

    upload: int = 256 << 20
    total: int = 4 << 30
    count: int = 64
    patience: float = 600.0
    seconds: int = 900
    memory: int = 4 << 30
    length: float = 30.0
    side: int = 1280
