"""Memory that the GPU can reach: its own, and page-locked memory of the host.

Both are plain allocations that live long, so that graphs and TensorRT may hold their addresses; whoever owns one
keeps it until nothing on the GPU uses it any more, and closes it.
"""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.backends.cuda.device import check


class DeviceMemory:
    """`size` bytes on the GPU, all 0, at ``address`` (a multiple of 256). Raises MachineError if there is no room."""

    def __init__(self, device: Any, size: int) -> None:
        from cuda.bindings import driver

        device.set_current()
        self._device = device
        self.size = max(size, 1)
        self.address = int(check(driver.cuMemAlloc(self.size)))
        check(driver.cuMemsetD8(self.address, 0, self.size))
        check(driver.cuStreamSynchronize(0))  # streams of ours do not wait for the default one

    def close(self) -> None:
        """Free it, once the GPU is done with it. Closing twice is fine."""
        if self.address:
            from cuda.bindings import driver

            self._device.set_current()
            address, self.address = self.address, 0
            check(driver.cuMemFree(address))


class PinnedMemory:
    """`size` bytes of page-locked host memory, as ``array`` (uint8 ``[size]``) and at ``address``.

    It is mapped: kernels reach it at ``device_address``.
    """

    def __init__(self, device: Any, size: int) -> None:
        from cuda.bindings import driver

        device.set_current()
        self._device = device
        self.address = int(check(driver.cuMemHostAlloc(max(size, 1), driver.CU_MEMHOSTALLOC_DEVICEMAP)))
        try:
            self.device_address = int(check(driver.cuMemHostGetDevicePointer(self.address, 0)))
        except BaseException:
            self.close()
            raise
        block = (ctypes.c_uint8 * size).from_address(self.address)
        self.array: npt.NDArray[np.uint8] = np.ctypeslib.as_array(block)
        self.array[:] = 0

    def close(self) -> None:
        """Free it; ``array`` is empty from then on, and views of it must not be used. Closing twice is fine."""
        if self.address:
            from cuda.bindings import driver

            self._device.set_current()
            self.array = np.empty(0, np.uint8)
            address, self.address = self.address, 0
            check(driver.cuMemFreeHost(address))
