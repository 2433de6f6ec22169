"""The base layer of an avatar's frames: the face in them at the model's resolution.

A frame minus its base layer, stretched over the box again, is the detail that the model cannot paint.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box, hidden_rows
from musetalk_runtime.avatar.crop import cut, resized
from musetalk_runtime.core.arrays import NV12, Bytes, Floats, Indices

CELL = 4  # pixels of the model, along both axes: faces are compared in cells of that size
RING_CELLS = 2  # how far the ring reaches beyond the mask
HALF = 128  # of 255: where the ring begins within the mask
STEPS = 256  # of a level: base layers are kept finer than frames, or detail would flicker by their rounding
SHARPENING = (0.05, 1.5)  # less changes nothing that is seen, and more would be guessed
CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class BaseLayer:
    """The face of one frame as a model of I x I pixels would see it, in cells of CELL pixels, G along a side.

    ``luma`` uint16 ``[I, I]``, in STEPS of a level; ``cells``, the mean Y in each cell, float32 ``[G, G]``, and
    ``chroma``, the mean U and V, uint8 ``[2, G, G]``; ``ring`` uint8 ``[G, G]``, 1 in the cells around the mask, where
    the colours of a generated face are compared with the frame's. ``sharpening`` is how much of `fine` is added to a
    generated face where it takes no detail.
    """

    luma: npt.NDArray[np.uint16]
    cells: Floats
    chroma: Bytes
    ring: Bytes
    sharpening: float

    @classmethod
    def of(cls, frame: NV12, mask: Bytes, box: Box, size: int, sharpening: float) -> "BaseLayer":
        """That of `frame` ``[H * 3 / 2, W]``, whose face is in `box` and shown by `mask`, for a model of `size` pixels.

        `size` is a multiple of CELL.
        """
        luma = np.clip(resized(_luma(frame, box), size), 0, 255)
        height, width = frame.shape[0] // 3, frame.shape[1] // 2
        halved = box[0] // 2, box[1] // 2, -(-box[2] // 2), -(-box[3] // 2)
        chroma = resized(cut(frame[2 * height :].reshape(height, width, 2), halved), size // CELL)
        luma_steps = np.rint(luma * STEPS).astype(np.uint16)
        return cls(luma_steps, cell_means(luma), np.stack(cv2.split(chroma)), ring_cells(mask, size), sharpening)

    @cached_property
    def ring_colours(self) -> tuple[Indices, Floats]:
        """Where the cells of the ring are in ``[G * G]``, and their Y, U and V, float32 ``[3, r]``."""
        places = np.flatnonzero(self.ring)
        return places, np.stack([plane.take(places) for plane in (self.cells, *self.chroma)]).astype(np.float32)

    def levels(self) -> Floats:
        """``luma`` in levels, float32 ``[I, I]``."""
        return np.multiply(self.luma, 1 / STEPS, dtype=np.float32)

    def packed(self) -> Bytes:
        """``luma``, ``chroma`` and ``ring``, one after the other, as the GPU reads them: uint8."""
        return np.concatenate([part.reshape(-1).view(np.uint8) for part in (self.luma, self.chroma, self.ring)])

    @property
    def nbytes(self) -> int:
        return self.luma.nbytes + self.cells.nbytes + self.chroma.nbytes + self.ring.nbytes


def packed_bytes(size: int) -> int:
    """The length of `BaseLayer.packed` for a model of `size` pixels."""
    return 2 * size * size + 3 * (size // CELL) ** 2


def ring_cells(mask: Bytes, size: int) -> Bytes:
    """1 in the cells around `mask` ``[M, M]`` and on its faint edge, of a face of `size` pixels: uint8 ``[G, G]``."""
    count = size // CELL
    inside = cv2.resize(mask, (count, count), interpolation=cv2.INTER_AREA)
    reached = cv2.dilate((inside > 0).astype(np.uint8), np.ones((2 * RING_CELLS + 1,) * 2, np.uint8))
    ring = np.asarray(reached & (inside < HALF), np.uint8)
    ring[: -(-hidden_rows(size) // CELL)] = 0
    return ring


def cell_means(plane: Floats) -> Floats:
    """The mean of each cell of `plane` ``[I, I]``."""
    for count in (len(plane) // 2, len(plane) // CELL):  # twice by two is faster than once by four
        plane = np.asarray(cv2.resize(plane, (count, count), interpolation=cv2.INTER_AREA), np.float32)
    return plane


def fine(plane: Floats) -> Floats:
    """What `plane` ``[I, I]`` has above a blur of three by three pixels."""
    return np.asarray(cv2.subtract(plane, cv2.GaussianBlur(plane, (3, 3), 0)))


def lost_sharpness(frame: NV12, box: Box, size: int) -> float:
    """How much of what is `fine` in a face of `size` pixels makes it most like `frame` when it is stretched over `box`.

    By least squares, within SHARPENING, and 0 below that, or where the box has no more pixels than the model.
    """
    part = _luma(frame, box)
    if part.size <= size * size:
        return 0.0
    luma = resized(part, size)
    stretched, added = (cv2.resize(p, part.shape[::-1], interpolation=cv2.INTER_CUBIC) for p in (luma, fine(luma)))
    energy = float(np.vdot(added, added))
    found = float(np.vdot(part - stretched, added)) / energy if energy else 0.0
    return 0.0 if found < SHARPENING[0] else min(found, SHARPENING[1])


def _luma(frame: NV12, box: Box) -> Floats:
    """The luma in `box`, at the frame's own size."""
    return cut(frame[: frame.shape[0] * 2 // 3], box).astype(np.float32)


class BaseLayers:
    """The base layers of frames by index, made by `make` when asked for. Safe to share between threads.

    They are kept while they fit in `cache_bytes`, and are not evicted: see ``FrameStore``.
    """

    def __init__(self, make: Callable[[int], BaseLayer], cache_bytes: int = CACHE_BYTES) -> None:
        self._make = make
        self._cache: dict[int, BaseLayer] = {}
        self._room = self._cache_bytes = cache_bytes
        self._lock = threading.Lock()

    def __getitem__(self, index: int) -> BaseLayer:
        found = self._cache.get(index)
        if found is None:
            found = self._make(index)
            with self._lock:
                if index not in self._cache and found.nbytes <= self._room:
                    self._cache[index] = found
                    self._room -= found.nbytes
        return found

    def rest(self) -> None:
        """Drop those that are kept."""
        with self._lock:
            self._cache.clear()
            self._room = self._cache_bytes
