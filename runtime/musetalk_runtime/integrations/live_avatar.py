"""The interface of an avatar in a conversation, and its frames."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from musetalk_runtime.core.arrays import NV12, Floats
from musetalk_runtime.frame import Frame


@dataclass(frozen=True)
class AvatarFrame:
    """A frame, due now. ``nv12`` as in ``Frame``; ``sound`` float32 ``[n]`` at 48 kHz is exactly its duration's.

    ``speaking``: whether it belongs to an utterance. ``ended``: how many utterances end with it.
    """

    index: int
    nv12: NV12
    sound: Floats
    speaking: bool
    ended: int

    def rgb(self) -> Any:
        """The picture as RGB, uint8 ``[H, W, 3]``."""
        return Frame(self.index, Fraction(0), self.nv12, self.sound).rgb()


class LiveAvatar(Protocol):
    """An avatar that says what is pushed and idles otherwise. `open` first, then iterate `frames`, then `close`.

    ``width`` and ``height`` in pixels and ``fps`` are there once it is open. `push`, `flush`, `interrupt` and `pose`
    are for the event loop and wait for nothing.
    """

    width: int
    height: int
    fps: Fraction

    async def open(self) -> None:
        """Get ready; raises MuseTalkEdgeError."""

    async def close(self) -> None:
        """End. Twice is fine."""

    def push(self, samples: Floats, rate: int) -> None:
        """Say `samples`, mono ``[n]`` in [-1, 1] at `rate` Hz, after what waits.

        Raises InvalidArgument if too much does.
        """

    def flush(self) -> None:
        """The utterance that was pushed is whole."""

    def interrupt(self) -> float:
        """Close the mouth, be silent, and drop what waits. Gives the seconds that were played of the utterance."""

    def pose(self, name: str, repeat: bool = False) -> None:
        """Go over to another clip of the avatar: once, or on and on if it is to `repeat`. See ``Session.pose``.

        Raises InvalidArgument for a name that none has.
        """

    @property
    def speaking(self) -> bool:
        """Whether an utterance waits or is under way."""

    def frames(self) -> AsyncGenerator[AvatarFrame, None]:
        """The frames, each when it is due. Where they are taken late, they wait."""
