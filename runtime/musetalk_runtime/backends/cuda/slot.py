"""The memory of a batch that is being made, and the pool that bounds how many are."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.backends.cuda.device import is_integrated
from musetalk_runtime.backends.cuda.frame_memory import FrameMemory
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory

EVENTS = (
    *("upload_begin", "upload_end", "compute_begin", "unet_end", "decoder_end"),
    *("compute_end", "download_begin", "download_end"),
)  # in order; those of UNet and decoder only where a face is made, those of the download only where there is one


class Slot:
    """Memory for one batch on its way, and the events that mark it.

    On the host: ``items`` (ITEM ``[n]``), ``tokens`` ``[n, tokens, width]`` of the UNet's type; on the GPU the same at
    ``item_address`` and ``token_address``. ``frames`` has the finished frames, mapped where the GPU is integrated until
    `place_frames` says otherwise. ``busy``: the host has not waited for the batch that was enqueued last.
    """

    def __init__(self, device: Any, batch: int, tokens: tuple[int, int], dtype: Any, frame: tuple[int, int]) -> None:
        from cuda.core import EventOptions

        self._device, self._batch, self._frame = device, batch, frame
        self.busy = False
        token_bytes = batch * tokens[0] * tokens[1] * np.dtype(dtype).itemsize
        self.item_bytes = -(-batch * ITEM.itemsize // 256) * 256
        self._memories: list[DeviceMemory | PinnedMemory] = []
        self.events: dict[str, Any] = {}
        try:
            staged = PinnedMemory(device, self.item_bytes + token_bytes)
            self._memories.append(staged)
            inputs = DeviceMemory(device, self.item_bytes + token_bytes)
            self._memories.append(inputs)
            self.frames = FrameMemory(device, batch, frame, is_integrated())
        except BaseException:
            self._free_inputs()
            raise
        self.staged_address, self.item_address = staged.address, inputs.address
        self.token_address = inputs.address + self.item_bytes
        self.items = staged.array[: batch * ITEM.itemsize].view(ITEM)
        self.tokens: npt.NDArray[Any] = staged.array[self.item_bytes :].view(dtype).reshape(batch, *tokens)
        options = EventOptions(timing_enabled=True, blocking_sync=True)
        self.events.update({name: device.create_event(options) for name in EVENTS})

    def wait_until_read(self) -> None:
        """Wait until the GPU no longer reads what the host wrote."""
        if self.busy:
            self.events["compute_end"].sync()
            self.busy = False

    def place_frames(self, mapped: bool) -> None:
        """Let ``frames`` be `mapped` or not, while no batch is on its way; raises MachineError if there is no room."""
        if self.frames.mapped != mapped:
            before = self.frames
            self.frames = FrameMemory(self._device, self._batch, self._frame, mapped)
            before.close()

    def close(self) -> None:
        """Free the memory, once the GPU is done with it. Closing twice is fine."""
        while self.events:
            self.events.popitem()[1].close()
        self.frames.close()
        self._free_inputs()

    def _free_inputs(self) -> None:
        while self._memories:
            self._memories.pop().close()


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
