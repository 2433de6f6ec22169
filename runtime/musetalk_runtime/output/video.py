"""The video options of an encoder, and the size and rate of its pictures."""

from dataclasses import dataclass
from fractions import Fraction

from musetalk_runtime.core.errors import InvalidArgument

ENCODERS = ("auto", "nvenc", "x264")
LEAST_KBPS, MOST_KBPS = 50, 100_000
MOST_THREADS = 4  # with more, slices cost bits and waiting threads time


@dataclass(frozen=True)
class VideoOptions:
    """How to encode: `encoder` is one of ENCODERS; `kbps`, in kilobits a second, is the target, None for constant
    quality; `constant` keeps the rate constant, else it may rise by half for a moment; `steered`: `kbps` is the most,
    and libx264 takes less where less is asked for while it runs. It cuts a frame in as many slices as it has `threads`.
    Raises InvalidArgument.
    """

    encoder: str = "auto"
    kbps: int | None = None
    constant: bool = False
    threads: int = MOST_THREADS
    steered: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise InvalidArgument(f"encoder {self.encoder!r}: expected one of {', '.join(ENCODERS)}")
        if self.kbps is not None and not LEAST_KBPS <= self.kbps <= MOST_KBPS:
            raise InvalidArgument(f"a bit rate of {self.kbps} kbit/s is out of range [{LEAST_KBPS}, {MOST_KBPS}]")
        if (self.constant or self.steered) and self.kbps is None:
            raise InvalidArgument("a constant bit rate needs a bit rate")

    @property
    def peak_kbps(self) -> int | None:
        return self.kbps if self.constant or self.kbps is None else self.kbps * 3 // 2


@dataclass(frozen=True)
class AccessUnit:
    """Frame `index` in H.264, as Annex B has it; a keyframe with its parameter sets."""

    index: int
    data: bytes
    keyframe: bool


@dataclass(frozen=True)
class Picture:
    """Width and height in pixels, both even, and frames a second."""

    width: int
    height: int
    fps: Fraction
