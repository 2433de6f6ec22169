"""The memory of a batch that is being made, and the pool that bounds how many are."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory

EVENTS = (
    *("upload_begin", "upload_end", "compute_begin", "unet_end", "decoder_end"),
    *("compute_end", "download_begin", "download_end"),
)  # in order; those of UNet and decoder only where a face is made


class Slot:
    """Memory for one batch on its way, and the events that mark it.

    On the host: ``items`` (ITEM ``[n]``), ``tokens`` ``[n, tokens, width]`` of the UNet's type, ``frames`` uint8
    ``[n, H * 3 / 2, W]``; on the GPU the same at ``item_address``, ``token_address`` and ``frame_address``.
    """

    def __init__(self, device: Any, batch: int, tokens: tuple[int, int], dtype: Any, frame: tuple[int, int]) -> None:
        from cuda.core import EventOptions

        width, height = frame
        token_bytes = batch * tokens[0] * tokens[1] * np.dtype(dtype).itemsize
        self.item_bytes = -(-batch * ITEM.itemsize // 256) * 256
        self.frame_bytes = width * height * 3 // 2
        self._memories: list[DeviceMemory | PinnedMemory] = []
        self.events: dict[str, Any] = {}
        try:
            staged = self._pinned(device, self.item_bytes + token_bytes)
            downloaded = self._pinned(device, batch * self.frame_bytes)
            inputs = self._device(device, self.item_bytes + token_bytes)
            outputs = self._device(device, batch * self.frame_bytes)
        except BaseException:
            self.close()
            raise
        self.staged_address, self.item_address = staged.address, inputs.address
        self.token_address = inputs.address + self.item_bytes
        self.frame_address, self.downloaded_address = outputs.address, downloaded.address
        self.items = staged.array[: batch * ITEM.itemsize].view(ITEM)
        self.tokens: npt.NDArray[Any] = staged.array[self.item_bytes :].view(dtype).reshape(batch, *tokens)
        self.frames = downloaded.array.reshape(batch, height * 3 // 2, width)
        options = EventOptions(timing_enabled=True, blocking_sync=True)
        self.events.update({name: device.create_event(options) for name in EVENTS})

    def wait_until_read(self) -> None:
        """Wait until the GPU no longer reads what the host wrote."""
        self.events["compute_end"].sync()

    def close(self) -> None:
        """Free the memory, once the GPU is done with it. Closing twice is fine."""
        while self.events:
            self.events.popitem()[1].close()
        while self._memories:
            self._memories.pop().close()

    def _pinned(self, device: Any, size: int) -> PinnedMemory:
        memory = PinnedMemory(device, size)
        self._memories.append(memory)
        return memory

    def _device(self, device: Any, size: int) -> DeviceMemory:
        memory = DeviceMemory(device, size)
        self._memories.append(memory)
        return memory


class SlotPool:
    """The slots that are free; whoever wants one waits until there is one. Safe from any thread."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._free = deque(slots)
        self._changed = threading.Condition()
        self.closed = False

    def acquire(self) -> Slot:
        """A free slot; raises RuntimeError once the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self.closed)
            if self.closed:
                raise RuntimeError("the renderer is closed")
            return self._free.popleft()

    def release(self, slot: Slot) -> None:
        """Give back a slot that was acquired."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()

    def close(self) -> None:
        """End all waiting; no slot can be acquired any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
