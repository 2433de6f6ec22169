"""The memory of the finished frames of a batch: where the GPU composes them, and where the host reads them."""

from typing import Any

from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory


class FrameMemory:
    """Room for `count` NV12 frames of `frame` (width, height) pixels. Raises MachineError if there is none.

    `mapped` frames are composed into page-locked memory of the host, where it reads them. Others are composed into the
    GPU's memory, and copied. Attributes: ``mapped``, ``address`` (the GPU's, of the first frame), ``frame_bytes``,
    ``host`` (uint8 ``[count, H * 3 / 2, W]``).
    """

    def __init__(self, device: Any, count: int, frame: tuple[int, int], mapped: bool) -> None:
        width, height = frame
        self.mapped = mapped
        self.frame_bytes = width * height * 3 // 2
        self._pinned = PinnedMemory(device, count * self.frame_bytes)
        self._composed: DeviceMemory | None = None
        if not mapped:
            try:
                self._composed = DeviceMemory(device, count * self.frame_bytes)
            except BaseException:
                self.close()
                raise
        self.address = self._composed.address if self._composed else self._pinned.device_address
        self.host = self._pinned.array.reshape(count, height * 3 // 2, width)

    def download(self, count: int, stream: Any) -> None:
        """Enqueue on the ``cuda.core.Stream`` the copy of the first `count` frames to the host; not if mapped."""
        copy(self._pinned.address, self.address, count * self.frame_bytes, stream)

    def close(self) -> None:
        """Free it, once the GPU is done with it. Closing twice is fine."""
        self._pinned.close()
        if self._composed:
            self._composed.close()
