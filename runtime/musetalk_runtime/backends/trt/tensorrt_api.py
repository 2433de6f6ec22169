"""TensorRT 8.6 to 11, the full or the lean runtime, and TensorRT for RTX, behind one interface.

What differs: a context that brings no memory of its own is made and sized in another way in 8.6, 10 and 11, and by a
runtime configuration in TensorRT for RTX. Enum values differ between versions too, so they are compared by name.
"""

import mmap
from collections import deque
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.backends.trt.rtx import JitCompilation, check_validity
from musetalk_runtime.core.errors import MachineError, PlanError, one_line

TENSORRT, RTX = "TensorRT", "TensorRT for RTX"
RTX_MODULE = "tensorrt_rtx_bindings"  # its front package, tensorrt_rtx, has no wheels
MODULES = {TENSORRT: ("tensorrt", "tensorrt_lean"), RTX: (RTX_MODULE,)}
INSTALL = {TENSORRT: "tensorrt, or tensorrt-lean", RTX: "'musetalk-edge[gpu-rtx]'"}
DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64}
MAX_LOG_LINES = 20

Shape = tuple[int, ...]


class Engine:
    """A plan, loaded. A CUDA context must be current: without one TensorRT ends the process.

    Attributes: ``inputs`` and ``outputs`` (names), ``profiles`` (how many). `library` is TENSORRT or RTX, `cache` the
    runtime cache of an earlier run, which only the latter has. Raises MachineError where the library is not installed
    or does not take the plan.
    """

    def __init__(self, path: Path, library: str = TENSORRT, cache: bytes = b"") -> None:
        trt = _module(library)
        self._trt, self._library = trt, library
        self.log: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self._logger = _logger(trt, self.log)
        self._runtime = trt.Runtime(self._logger)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
            if library == RTX:
                check_validity(trt, self._runtime, plan, str(path), lambda: self.last_error)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise MachineError(f"{path}: {library} {trt.__version__} does not load it: {self.last_error}")
        self._jit = JitCompilation(trt, self._engine, cache) if library == RTX else None
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self.inputs = [name for name in names if self._engine.get_tensor_mode(name).name == "INPUT"]
        self.outputs = [name for name in names if name not in self.inputs]
        self.profiles = int(self._engine.num_optimization_profiles)

    @property
    def last_error(self) -> str:
        """The last line that TensorRT logged."""
        return self.log[-1] if self.log else "it does not say why"

    def dtype(self, name: str) -> npt.DTypeLike:
        """The type of a tensor; raises MachineError for one that NumPy does not have."""
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise MachineError(f"the plan's tensor {name} is {kind}, expected one of {', '.join(DTYPES)}")
        return np.dtype(DTYPES[kind])

    def largest_shape(self, name: str, profile: int) -> Shape:
        """The largest shape of an input in `profile`."""
        shape = tuple(self._engine.get_tensor_shape(name))
        if -1 in shape:
            shape = tuple(self._engine.get_tensor_profile_shape(name, profile)[-1])
        return shape

    def memory_size(self, profile: int) -> int:
        """Bytes of memory that a context needs while it runs `profile`."""
        engine = self._engine
        if hasattr(engine, "get_device_memory_size_for_profile_v2"):
            return int(engine.get_device_memory_size_for_profile_v2(profile))
        return int(engine.device_memory_size)  # 8.6: what the largest profile needs

    def context(self, profile: int, stream: int) -> "Context":
        """A context for `profile`, prepared on the CUDA stream `stream`, which must be idle; memory comes later.

        Raises PlanError if TensorRT, which built the plan, cannot run it.
        """
        engine = self._engine
        if self._jit:
            context = self._jit.context()
        elif hasattr(self._trt, "ExecutionContextAllocationStrategy"):
            context = engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            context = engine.create_execution_context_without_device_memory()
        if context is None or not context.set_optimization_profile_async(profile, stream):
            raise PlanError(f"{self._library} cannot prepare profile {profile}: {self.last_error}")
        return Context(self, context)

    def runtime_cache(self) -> bytes:
        """What was compiled for the contexts so far, for the next run; empty but for TensorRT for RTX."""
        return self._jit.content() if self._jit else b""

    def close(self) -> None:
        """Release the engine, after its contexts. Closing twice is fine."""
        self._engine = self._runtime = self._jit = None


class Context:
    """One way of running an engine: a profile, shapes, and the addresses of everything it reads and writes."""

    def __init__(self, engine: Engine, context: Any) -> None:
        self._engine = engine
        self._context = context

    def set_memory(self, address: int, size: int) -> None:
        """Let it work in the `size` bytes at `address`, a multiple of 256; the owner keeps them."""
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(address, size)
        else:
            self._context.device_memory = address

    def set_shape(self, name: str, shape: Shape) -> None:
        self._require(self._context.set_input_shape(name, shape), f"{name} {list(shape)}")

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, once all inputs have theirs."""
        return tuple(self._context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> None:
        """Read or write the tensor `name` at `address`; the owner keeps the memory."""
        self._require(self._context.set_tensor_address(name, address), f"the address of {name}")

    def enqueue(self, stream: int) -> None:
        """Run on the CUDA stream with the handle `stream`."""
        self._require(self._context.execute_async_v3(stream), "to run")

    def can_be_captured(self, stream: int) -> bool:
        """Whether a CUDA graph can be captured from `enqueue` on that stream, as far as it can be told before."""
        if hasattr(self._context, "is_stream_capturable"):
            return bool(self._context.is_stream_capturable(stream))
        return True

    def close(self) -> None:
        """Release the context, once it does not run. Closing twice is fine."""
        self._context = None

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise PlanError(f"TensorRT refuses {what}: {self._engine.last_error}")


def version(library: str = TENSORRT) -> str | None:
    """The version of TENSORRT or RTX, None where it is not installed."""
    try:
        return str(_module(library).__version__)
    except MachineError:
        return None


def is_lean() -> bool:
    """Whether TensorRT is here as its lean runtime only."""
    try:
        return bool(_module(TENSORRT).__name__ == MODULES[TENSORRT][1])
    except MachineError:
        return False


def _module(library: str) -> Any:
    reasons = []
    for name in MODULES[library]:
        try:
            return import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library that it needs does not load
            reasons.append(str(error))
    raise MachineError(f"{library} is not usable ({'; '.join(reasons)}): pip install {INSTALL[library]}")


def _logger(trt: Any, lines: deque[str]) -> Any:
    """A logger that keeps TensorRT's errors in `lines`, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("INTERNAL_ERROR", "ERROR"):
                lines.append(one_line(message))

    return Log()
