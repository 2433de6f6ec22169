"""A FIFO of audio samples."""

from typing import Any

import numpy as np
import numpy.typing as npt


class SampleFifo:
    """Arrays ``[..., n]`` pushed in pieces of any length and taken in others, without copying what waits."""

    def __init__(self) -> None:
        self._pieces: list[npt.NDArray[Any]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, piece: npt.NDArray[Any]) -> None:
        self._pieces.append(piece)
        self._length += piece.shape[-1]

    def take(self, count: int) -> npt.NDArray[Any]:
        """The next `count` samples; `count` is at least 1 and at most the length."""
        taken: list[npt.NDArray[Any]] = []
        missing = count
        while missing:
            piece = self._pieces[0]
            taken.append(piece[..., :missing])
            missing -= taken[-1].shape[-1]
            self._pieces[0] = piece[..., taken[-1].shape[-1] :]
            if not self._pieces[0].shape[-1]:
                del self._pieces[0]
        self._length -= count
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=-1)
