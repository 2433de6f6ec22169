"""The machine that builds the plans: its GPU and its TensorRT."""

from importlib.util import find_spec
from pathlib import Path

from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.backends.trt.gpu_facts import GpuFacts, gpu_facts
from musetalk_runtime.backends.trt.gpu_support import unsupported
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.core.errors import MachineError


def require_gpu() -> GpuFacts:
    """The facts about it; raises MachineError, saying what is missing, unless TensorRT is here and knows the GPU."""
    needs = (
        "--backend tensorrt needs an NVIDIA GPU, its driver, and tensorrt 8.6, 10 or 11 with cuda-core (pip install "
        "'musetalk-edge[gpu]'); --backend onnxruntime does without"
    )
    try:
        facts = gpu_facts()
    except (MachineError, ImportError) as error:
        raise MachineError(f"{needs}: {error}") from error
    if find_spec("tensorrt") is None:  # the lean runtime cannot build
        raise MachineError(f"{needs}: {facts.name} is here, tensorrt is not")
    if facts.tensorrt and (reason := unsupported(facts.tensorrt, facts.compute_capability)):
        raise MachineError(f"{reason}; --backend onnxruntime does without")
    return facts


def load_plan(file: Path) -> Plan:
    """`file`, ready to run on the first GPU."""
    return Plan.load(file, open_device())
