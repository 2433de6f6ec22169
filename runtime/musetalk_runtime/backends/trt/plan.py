"""A TensorRT plan, loaded on the GPU and run from and to host memory."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory
from musetalk_runtime.backends.interface import ALL
from musetalk_runtime.backends.trt.tensorrt_api import TENSORRT, Context, Engine, Shape
from musetalk_runtime.core.arrays import Array
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument


class Plan(Closable):
    """A plan on the GPU. Safe to share between threads; `run` calls wait for each other.

    Attributes: ``inputs`` and ``outputs`` (tensor names), ``profiles``: for each optimisation profile, its inputs'
    (largest) shapes by name. Use ``with``, or `close`.
    """

    def __init__(self, engine: Engine, device: Any) -> None:
        self._engine = engine
        self._device = device
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.profiles: list[dict[str, Shape]] = [
            {name: engine.largest_shape(name, profile) for name in engine.inputs} for profile in range(engine.profiles)
        ]
        self._lock = threading.Lock()
        self._stream = device.create_stream()
        self._memory: DeviceMemory | None = None
        self._runs: dict[int, _ProfileRun] = {}

    @classmethod
    def load(cls, path: Path, device: Any, library: str = TENSORRT, cache: bytes = b"") -> "Plan":
        """Load the plan in the file `path` onto `device` (see `open_device`); raises InputNotFound or MachineError.

        `library` and `cache` are as for ``Engine``.
        """
        if not path.is_file():
            raise InputNotFound(f"{path}: no such plan")
        device.set_current()
        return cls(Engine(path, library, cache), device)

    def run(self, profile: int, inputs: Mapping[str, Array], rows: slice = ALL) -> dict[str, Array]:
        """The outputs of `inputs`, by name, as the engine made them; inputs are cast to the engine's types.

        Of a batch of one only some `rows` may be fetched, by the outputs' second axis. Shapes must lie in the profile's
        range. Raises InvalidArgument for other names, MachineError for other shapes.
        """
        if sorted(inputs) != sorted(self.inputs):
            raise InvalidArgument(f"the plan takes {', '.join(self.inputs)}, found {', '.join(inputs)}")
        cast = {name: np.asarray(value, self.dtype(name)) for name, value in inputs.items()}
        with self._lock:
            self._device.set_current()
            if profile not in self._runs:
                self._runs[profile] = self._prepare(profile)
            return self._runs[profile](cast, rows)

    def dtype(self, name: str) -> Any:
        """The NumPy type of a tensor."""
        return self._engine.dtype(name)

    def memory_size(self, profile: int) -> int:
        """Bytes a context needs to work in while it runs `profile`."""
        return self._engine.memory_size(profile)

    def context(self, profile: int, memory: DeviceMemory, stream: Any) -> Context:
        """A context for `profile` at its (largest) shapes, that works in `memory`, prepared on the idle `stream`.

        Contexts that run one after another may share memory. Their addresses are still to be set.
        """
        context = self._engine.context(profile, int(stream.handle))
        context.set_memory(memory.address, memory.size)
        for name, shape in self.profiles[profile].items():
            context.set_shape(name, shape)
        stream.sync()
        return context

    def runtime_cache(self) -> bytes:
        """What TensorRT for RTX compiled so far, for the next run; empty for TensorRT."""
        with self._lock:
            self._device.set_current()
            return self._engine.runtime_cache()

    def close(self) -> None:
        """Release the engine, once its contexts are closed. Closing twice is fine."""
        with self._lock:
            self._device.set_current()
            for run in self._runs.values():
                run.close()
            self._runs.clear()
            if self._memory:
                self._memory.close()
                self._memory = None
            self._engine.close()
            self._stream.close()

    def _prepare(self, profile: int) -> "_ProfileRun":
        if self._memory is None:
            size = max(self.memory_size(number) for number in range(len(self.profiles)))
            self._memory = DeviceMemory(self._device, size)
        return _ProfileRun(self, self._device, profile, self._memory, self._stream)


class _ProfileRun:
    """A profile, with its inputs and outputs in device memory, and staged in pinned memory."""

    def __init__(self, plan: Plan, device: Any, profile: int, memory: DeviceMemory, stream: Any) -> None:
        self._stream = stream
        self._types = {name: np.dtype(plan.dtype(name)) for name in (*plan.inputs, *plan.outputs)}
        self._outputs = plan.outputs
        self._context = plan.context(profile, memory, stream)
        self._buffers: dict[str, DeviceMemory] = {}
        self._staging: dict[str, PinnedMemory] = {}
        for name, dtype in self._types.items():
            size = int(np.prod(self._context.shape(name))) * dtype.itemsize
            self._buffers[name] = DeviceMemory(device, size)
            self._staging[name] = PinnedMemory(device, size)
            self._context.set_address(name, self._buffers[name].address)

    def __call__(self, inputs: Mapping[str, Array], rows: slice) -> dict[str, Array]:
        for name, value in inputs.items():
            self._context.set_shape(name, value.shape)
            staged = self._staged(name, value.shape)
            staged[...] = value
            copy(self._buffers[name].address, self._staging[name].address, staged.nbytes, self._stream)
        self._context.enqueue(int(self._stream.handle))
        results: dict[str, Array] = {}
        for name in self._outputs:
            shape, skipped = self._part(name, rows)
            results[name] = result = self._staged(name, shape)
            copy(self._staging[name].address, self._buffers[name].address + skipped, result.nbytes, self._stream)
        self._stream.sync()
        return {name: result.copy() for name, result in results.items()}

    def close(self) -> None:
        self._context.close()
        for buffer in self._buffers.values():
            buffer.close()
        for staging in self._staging.values():
            staging.close()

    def _part(self, name: str, rows: slice) -> tuple[Shape, int]:
        """The shape of those `rows` of an output, and the bytes before them."""
        shape = self._context.shape(name)
        if rows == ALL:
            return shape, 0
        first, end, _ = rows.indices(shape[1])
        row_bytes = int(np.prod(shape[2:])) * self._types[name].itemsize
        return (1, max(0, end - first), *shape[2:]), first * row_bytes

    def _staged(self, name: str, shape: Shape) -> Array:
        count = int(np.prod(shape))
        return np.frombuffer(self._staging[name].array, self._types[name], count).reshape(shape)
