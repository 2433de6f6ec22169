"""The choice of a backend for the machine at hand."""

from importlib.util import find_spec

from musetalk_runtime.backends.trt.gpu_facts import GpuFacts, gpu_facts
from musetalk_runtime.backends.trt.gpu_support import unsupported
from musetalk_runtime.backends.trt.rtx import ARCHITECTURES
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.core.errors import MachineError


def choose_backend() -> tuple[str, str, tuple[str, ...]]:
    """The backend, why in words, and the targets of a build by TensorRT for RTX.

    TensorRT where it is installed and knows the GPU, else TensorRT for RTX where that is, else ONNX Runtime.
    """
    try:
        facts = gpu_facts()
    except (MachineError, ImportError) as error:
        return "onnxruntime", str(error), ()
    reason = _why_not_tensorrt(facts)
    if reason is None:
        return "tensorrt", f"TensorRT {facts.tensorrt} is here, and knows {facts.name}", ()
    if find_spec(RTX_MODULE) is None:
        return "onnxruntime", f"{reason}, and TensorRT for RTX is not installed", ()
    if facts.arch not in ARCHITECTURES:
        return "onnxruntime", f"{reason}, and TensorRT for RTX does not know {facts.name} ({facts.arch})", ()
    return "tensorrt-rtx", f"{reason}, TensorRT for RTX is here", (facts.arch,)


def _why_not_tensorrt(facts: GpuFacts) -> str | None:
    """Why TensorRT cannot build for this GPU; None if it can."""
    if facts.tensorrt is None or facts.lean:
        return "TensorRT is not installed"
    return unsupported(facts.tensorrt, facts.compute_capability)
