"""What TensorRT for RTX has besides TensorRT's own API: the check of a plan, and its just-in-time compilation."""

from typing import Any

from musetalk_runtime.core.errors import MachineError

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")  # all that its ComputeCapability names
WORDS = {  # by the name in EngineInvalidityDiagnostics
    "VERSION_MISMATCH": "another version of TensorRT for RTX built it: run build-engines again",
    "UNSUPPORTED_CC": "it was not built for this GPU: run build-engines again, with --for and its name",
    "OLD_CUDA_DRIVER": "the driver is too old: install a newer one",
    "OLD_CUDA_RUNTIME": "its CUDA runtime is too old: install a newer TensorRT for RTX",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged: copy the bundle again",
    "CUDA_ERROR": "CUDA does not work here: see 'nvidia-smi'",
}


def check_validity(trt: Any, runtime: Any, plan: Any, where: str, last_error: Any) -> None:
    """Raise MachineError, in words, unless the `plan` (a buffer) may run on the GPU that is current."""
    validity, diagnostics = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    if validity.name == "INVALID":
        names = trt.EngineInvalidityDiagnostics.__members__
        reasons = [text for name, text in WORDS.items() if name in names and int(names[name]) & int(diagnostics)]
        reason = "; ".join(reasons) or last_error()
        raise MachineError(f"{where}: TensorRT for RTX {trt.__version__} cannot run it here: {reason}")


class JitCompilation:
    """How contexts of `engine` are compiled, and what was compiled: the runtime cache.

    The cache is TensorRT's own format, valid for one GPU model, driver and version; what does not fit is refused.
    Attribute: ``reused``, whether the `content` of an earlier run was taken.
    """

    def __init__(self, trt: Any, engine: Any, content: bytes) -> None:
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # the chain captures graphs of its own
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER  # each profile has one shape
        self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._cache = self._config.create_runtime_cache()
        self.reused = bool(content) and bool(self._cache.deserialize(content))
        self._config.set_runtime_cache(self._cache)
        self._engine = engine

    def context(self) -> Any:
        """A new execution context without memory; None where TensorRT makes none."""
        return self._engine.create_execution_context(self._config)

    def content(self) -> bytes:
        """The runtime cache, with all that was compiled so far."""
        return bytes(memoryview(self._cache.serialize()))
