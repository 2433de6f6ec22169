"""What a renderer is asked for."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any


def shots(avatar: Any, frames: Iterable[Any], fps: int = 25) -> list[Any]:
    """What is to be rendered for speech `frames` of a stream of `avatar`."""
    from musetalk_runtime.backends.interface import FrameRequest

    return [FrameRequest(avatar, avatar.index_at(frame.index, Fraction(fps)), frame) for frame in frames]
