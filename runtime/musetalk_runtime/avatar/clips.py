"""The clips of an avatar: parts of its frames with names, each played by itself."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from musetalk_runtime.core.arrays import Indices

FIRST_NAME = "idle"  # of the first clip, unless it is given another
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
NAME_FORM = "a letter or digit, then letters, digits, - and _, 32 in all at most"
MAX_CLIPS = 32  # of one avatar


@dataclass(frozen=True)
class Clip:
    """The frames from ``first`` on, ``count`` of them."""

    name: str
    first: int
    count: int

    @property
    def turn(self) -> int:
        """Frames of one turn, forth and back, the ends shown once."""
        return max(1, 2 * self.count - 2)

    def looped(self, positions: Any) -> Indices:
        """The avatar's frames at `positions` (an integer or an array) of endless turns."""
        within = np.asarray(positions) % self.turn
        return np.asarray(self.first + np.minimum(within, self.turn - within), np.int64)

    def forward(self, positions: Any) -> Indices:
        """The avatar's frames at `positions` from the beginning to the end, where it stays."""
        return np.asarray(self.first + np.minimum(positions, self.count - 1), np.int64)


def parse_clips(entries: Any, frames: int) -> tuple[Clip, ...]:
    """The clips that a manifest lists for `frames` frames, one after another; raises ValueError, which says why."""
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CLIPS:
        raise ValueError(f"expected a list of 1 to {MAX_CLIPS} clips")
    clips: list[Clip] = []
    first = 0
    for entry in entries:
        name, count = (entry.get("name"), entry.get("frames")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"a clip's name is {str(name)[:40]!r}, expected {NAME_FORM}")
        if type(count) is not int or not 0 < count <= frames - first:
            raise ValueError(f"clip {name!r} has {str(count)[:40]} frames, {frames - first} are left for it")
        if any(clip.name == name for clip in clips):
            raise ValueError(f"two clips are named {name!r}")
        clips.append(Clip(name, first, count))
        first += count
    if first != frames:
        raise ValueError(f"the clips have {first} frames, there are {frames}")
    return tuple(clips)


def nearest(k: int, rate: Fraction) -> int:
    """``k * rate`` to the nearest integer, half rounds down."""
    return -((rate.denominator - 2 * k * rate.numerator) // (2 * rate.denominator))
