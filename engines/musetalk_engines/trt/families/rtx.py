"""TensorRT for RTX: strongly typed networks, compiled ahead of time for GPUs that need not be here."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.options import BuildOptions
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.core.errors import InvalidArgument, MachineError


class ForRtx(StronglyTyped):
    """TensorRT for RTX chooses kernels where the plan runs, when a context is made: its builder measures nothing.

    The variants are those of `StronglyTyped`.
    """

    product = "TensorRT for RTX"
    versions = "1"
    module = RTX_MODULE
    measures = False

    def supports(self, major: int, minor: int) -> bool:  # noqa: ARG002
        return major == 1

    def check_precision(self, models: ModelSet, precision: str) -> None:
        if precision == "fp16" and models.precision != "fp16":
            raise InvalidArgument(
                f"{models.path} is {models.precision}, and TensorRT for RTX builds what the graph says: export it with "
                "--fp16, or pass --precision fp32"
            )

    def configure(self, config: Any, options: BuildOptions) -> None:
        """Its plans run on every GPU that `options` target; a plan for several keeps one copy of the weights."""
        trt = self.tensorrt
        config.clear_flag(trt.BuilderFlag.TF32)
        config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.replace("sm_", "SM")), index)


def require_rtx(targets: Sequence[str]) -> None:
    """Raise MachineError unless TensorRT for RTX is installed, InvalidArgument where there are no `targets`."""
    if not targets:
        raise InvalidArgument("--backend tensorrt-rtx needs --for: the GPUs to build for, such as --for gb10")
    if find_spec(RTX_MODULE) is None:
        raise MachineError("--backend tensorrt-rtx needs TensorRT for RTX: pip install 'musetalk-edge[gpu-rtx]'")
