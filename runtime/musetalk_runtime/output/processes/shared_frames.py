"""The shared memory that frames are made in, so that an encoder process reads them where they are."""

import mmap
import os
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Any

import numpy as np

from musetalk_runtime.core.arrays import NV12, Bytes
from musetalk_runtime.core.closable import Closable

LARGEST, SMALLEST = 1 << 34, 1 << 26  # bytes of address space; only what is written takes memory
ALIGNMENT = 4096


class SharedFrames(Closable):
    """Room for frames in memory that other processes map. Safe from any thread.

    A frame's room is free again once nothing refers to its array. Attributes: ``descriptor`` (of the memory) and
    ``size`` (bytes, of the address space). Raises OSError where there is none to be had.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("musetalk-edge-frames")
        self.size = LARGEST
        while True:
            try:
                os.ftruncate(self.descriptor, self.size)
                self._memory = mmap.mmap(self.descriptor, self.size)
                break
            except (OSError, ValueError):  # an address space that is limited
                self.size //= 2
                if self.size < SMALLEST:
                    os.close(self.descriptor)
                    raise
        self._address = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._free: defaultdict[int, list[int]] = defaultdict(list)  # offsets of rooms, by their size
        self._top = self._used = 0
        self._lock = threading.RLock()  # a room is given back by the garbage collector, in any thread at any moment

    def new(self, shape: tuple[int, int]) -> NV12:
        """Room for a frame, uint8 of `shape`; of this process alone where the shared memory is full."""
        size = -(-shape[0] * shape[1] // ALIGNMENT) * ALIGNMENT
        with self._lock:
            if self._free[size]:
                offset = self._free[size].pop()  # the last that was used: few pages are touched
            elif self._top + size <= self.size:
                offset, self._top = self._top, self._top + size
            else:
                return np.empty(shape, np.uint8)
            self._used += 1
        return np.asarray(_Room(self, self._address + offset, size, shape))

    def offset(self, frame: Bytes) -> int | None:
        """Where `frame` lies in the shared memory; None if it lies elsewhere, or in pieces."""
        offset = int(frame.ctypes.data) - self._address
        return offset if 0 <= offset < self.size and frame.flags.c_contiguous else None

    def shared(self, frame: Bytes) -> Bytes:
        """`frame`, or a copy of it in the shared memory, if there is room."""
        if self.offset(frame) is not None:
            return frame
        copy = self.new((frame.shape[0], frame.shape[1]))
        copy[:] = frame
        return copy

    def trim(self) -> None:
        """Give the memory back to the system, if no frame is in it."""
        with self._lock:
            if not self._used and self._top:
                self._memory.madvise(mmap.MADV_REMOVE, 0, self._top)
                self._free.clear()
                self._top = 0

    def close(self) -> None:
        """Let go of it; what still refers to a frame keeps the memory. Closing twice is fine."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            with suppress(BufferError):
                self._memory.close()

    def _release(self, address: int, size: int) -> None:
        with self._lock:
            self._free[size].append(address - self._address)
            self._used -= 1


class _Room:
    """The owner of one frame's memory, which numpy's array refers to."""

    def __init__(self, frames: SharedFrames, address: int, size: int, shape: tuple[int, int]) -> None:
        self._frames, self._address, self._size = frames, address, size
        self._shape = shape

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": self._shape, "typestr": "|u1", "data": (self._address, False), "version": 3}

    def __del__(self) -> None:
        self._frames._release(self._address, self._size)
