"""An avatar in the GPU's memory."""

from typing import Any

import numpy as np

from musetalk_runtime.avatar.base_layer import packed_bytes
from musetalk_runtime.avatar.pack import MASK_SIZE, Avatar
from musetalk_runtime.backends.cuda.device import check, free_memory
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory
from musetalk_runtime.core.errors import MachineError

ALIGNMENT = 16  # bytes, of base layers
RESERVED_BYTES = 256 << 20  # of the GPU, that an avatar leaves to the rest


class GpuAvatar:
    """Everything of an avatar that a frame is made from, uploaded once: frames (NV12), masks, latents, base layers.

    Attributes: ``avatar``, ``sharpening`` of the base layers, and on the host ``boxes``. Raises MachineError where it
    does not fit.
    """

    def __init__(self, avatar: Avatar, device: Any) -> None:
        device.set_current()
        self.avatar = avatar
        self.boxes = np.array(avatar.boxes)
        self._frame_bytes = avatar.width * avatar.height * 3 // 2
        self._latent_bytes = int(avatar.latents[0].nbytes)
        self._base_bytes = (
            -(-packed_bytes(avatar.image_size) // ALIGNMENT) * ALIGNMENT if avatar.detail == "auto" else 0
        )
        count = len(avatar)
        self.sharpening = 0.0
        self._check_room()
        self._memories: list[DeviceMemory] = []
        try:
            for size in (self._frame_bytes, MASK_SIZE * MASK_SIZE, self._latent_bytes, self._base_bytes):
                self._memories.append(DeviceMemory(device, count * size))
            self._upload(device)
        except BaseException:
            self.close()
            raise

    def frame(self, index: int) -> int:
        """Device address of frame `index`, NV12 ``[H * 3 / 2, W]``."""
        return self._memories[0].address + index * self._frame_bytes

    def mask(self, index: int) -> int:
        """Device address of mask `index`, uint8 ``[MASK_SIZE, MASK_SIZE]``."""
        return self._memories[1].address + index * MASK_SIZE * MASK_SIZE

    def latents(self, index: int) -> int:
        """Device address of the latents of frame `index`, float16 ``[2 * C, S, S]``."""
        return self._memories[2].address + index * self._latent_bytes

    def base(self, index: int) -> int:
        """Device address of the base layer of frame `index`, see `BaseLayer.packed`; 0 where there is none."""
        return self._memories[3].address + index * self._base_bytes if self._base_bytes else 0

    def memory(self) -> int:
        """Bytes it holds on the GPU, or will."""
        return len(self.avatar) * (self._frame_bytes + MASK_SIZE * MASK_SIZE + self._latent_bytes + self._base_bytes)

    def close(self) -> None:
        """Free the GPU's memory, once nothing renders from it. Closing twice is fine."""
        while self._memories:
            self._memories.pop().close()

    def _check_room(self) -> None:
        free, _ = free_memory()
        if self.memory() + RESERVED_BYTES > free:
            raise MachineError(
                f"{self.avatar.path}: its {len(self.avatar)} frames of {self.avatar.width}x{self.avatar.height} need "
                f"{self.memory() / 1e6:.0f} MB on the GPU, which has {free / 1e6:.0f} MB free, "
                f"{RESERVED_BYTES / 1e6:.0f} of them reserved: prepare a shorter or smaller avatar"
            )

    def _upload(self, device: Any) -> None:
        from cuda.bindings import driver

        staging = PinnedMemory(device, max(self._frame_bytes, self._latent_bytes, self._base_bytes))
        try:
            for index in range(len(self.avatar)):
                parts = [
                    (self.frame(index), self.avatar.frame(index)),
                    (self.mask(index), self.avatar.masks[index]),
                    (self.latents(index), self.avatar.latents[index]),
                ]
                base = self.avatar.base(index) if self.avatar.has_face[index] else None
                if base is not None:
                    self.sharpening = base.sharpening
                    parts.append((self.base(index), base.packed()))
                for address, array in parts:
                    staging.array[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                    check(driver.cuMemcpyHtoD(address, staging.address, array.nbytes))
        finally:
            staging.close()
