"""A finished frame that stays on the GPU, for other libraries."""

from typing import Any

import numpy as np

Event = Any  # a cuda.core.Event


class DeviceFrame:
    """NV12 uint8 ``[H * 3 / 2, W]`` that the GPU reaches, by ``__cuda_array_interface__`` (version 3) and DLPack.

    It lies in the GPU's memory. On an integrated GPU it lies in page-locked memory of the host if frames are brought
    there ahead of time (``download`` of ``Bundle.open``), and DLPack says so.

    It may not be finished yet: both protocols make the consumer's stream wait for it. It is valid until the session is
    asked for the next frame or closed; what is made from it without a copy, only until then as well. Attributes:
    ``shape``.
    """

    def __init__(self, address: int, shape: tuple[int, int], finished: Event, stream: Any) -> None:
        self.shape = shape
        self._address = address
        self._finished = finished
        self._stream = stream

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self._address, False),
            "version": 3,
            "strides": None,
            "stream": int(self._stream.handle),
        }

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """A DLPack capsule; `stream` is the consumer's handle, None or 1 the legacy default stream, -1: no waiting."""
        if stream != -1:
            from cuda.core import Stream

            Stream.from_handle(stream or 1).wait(self._finished)
        return self._view().__dlpack__(stream=-1, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._view().__dlpack_device__()
        return device

    def _view(self) -> Any:
        from cuda.core import Buffer
        from cuda.core.utils import StridedMemoryView

        buffer = Buffer.from_handle(self._address, self.shape[0] * self.shape[1], owner=self)
        return StridedMemoryView.from_buffer(buffer, self.shape, dtype=np.dtype(np.uint8))
