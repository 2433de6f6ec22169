"""TensorRT for RTX: strongly typed networks, compiled ahead of time for GPUs that need not be here."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.options import BuildOptions
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.core.errors import InvalidArgument, MachineError

TARGETS = {
    "gb10": ("sm_121",),
    "rtx50": ("sm_120",),
    "rtx40": ("sm_89",),
    "ampere": ("sm_80", "sm_86"),
    "turing": ("sm_75",),
}
CAPABILITIES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")  # all that its ComputeCapability names


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


def parse_targets(text: str) -> tuple[str, ...]:
    """The compute capabilities, ascending, of ``gb10,rtx40`` or ``sm_121`` or ``all``; raises InvalidArgument."""
    found: set[str] = set()
    for word in text.lower().split(","):
        if word == "all":
            found.update(CAPABILITIES)
        elif word in TARGETS:
            found.update(TARGETS[word])
        elif word in CAPABILITIES:
            found.add(word)
        else:
            raise InvalidArgument(
                f"--for {text}: {word!r} is no target: expected {', '.join(TARGETS)}, all, or some of "
                f"{', '.join(CAPABILITIES)}, with commas between"
            )
    return tuple(name for name in CAPABILITIES if name in found)


def require_rtx(targets: Sequence[str]) -> None:
    """Raise MachineError, saying what to install, unless TensorRT for RTX can build here; InvalidArgument for no target."""
    if not targets:
        raise InvalidArgument("--backend tensorrt-rtx needs --for: the GPUs to build for, such as --for gb10")
    if find_spec(RTX_MODULE) is None:
        raise MachineError("--backend tensorrt-rtx needs TensorRT for RTX: pip install 'musetalk-edge[gpu-rtx]'")
