"""The interface of a family of TensorRT versions, and the variants of a plan that it may offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from onnx import ModelProto

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.options import BuildOptions

# The ways to build a graph, from the fastest to the safest. Each adds to the one before. A family's docstring says how
# it does each of them. FP32 is FP32: TF32 is off in all of them. From an fp16 model set the weights of an FP32 plan are
# still those that the export rounded.
AS_BUILT = "as built"
UNFUSED_ATTENTION = "attention unfused"
FP32_ATTENTION = "fp32 attention and norms"
FP32 = "fp32"


@dataclass(frozen=True)
class PlanSpec:
    """A plan to build: its graph, its precision (``fp16`` or ``fp32``), and one of the variants above."""

    graph: str
    precision: str
    variant: str


class Family(ABC):
    """TensorRT versions that are told in the same way what to build.

    Making a family imports no TensorRT, and neither do the methods that only plan: `fallbacks`, `check_precision` and
    `rewriting`. Names of an enum's members are used, never their values: those differ between versions.

    Attributes: ``product``, what messages call it; ``versions``, in words; ``module``, the Python module; and
    ``measures``, whether the builder measures kernels, which takes a GPU, and fills a timing cache.
    """

    product = "TensorRT"
    versions: str
    module = "tensorrt"
    measures = True

    @property
    def tensorrt(self) -> Any:
        """The Python module of the installed TensorRT; raises ImportError."""
        return import_module(self.module)

    @abstractmethod
    def supports(self, major: int, minor: int) -> bool:
        """Whether a TensorRT version belongs to this family."""

    @abstractmethod
    def fallbacks(self, precision: str) -> tuple[str, ...]:
        """The variants to try for a `precision`, in order."""

    @abstractmethod
    def check_precision(self, models: ModelSet, precision: str) -> None:
        """Raise InvalidArgument unless plans of `precision` can be made of `models`."""

    @abstractmethod
    def rewriting(self, spec: PlanSpec, models: ModelSet) -> Callable[[ModelProto], ModelProto] | None:
        """What makes the graph that is parsed of that of `models`, and may use it up; None: it is parsed as it is."""

    @abstractmethod
    def network_flags(self) -> int:
        """For ``Builder.create_network``."""

    def configure(self, config: Any, options: BuildOptions) -> None:
        """Set in the builder's `config` what `options` ask of every plan."""
        trt = self.tensorrt
        config.builder_optimization_level = options.level
        config.clear_flag(trt.BuilderFlag.TF32)
        if options.max_memory:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.max_memory << 20)
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)  # it is code; runtimes are told to load none

    @abstractmethod
    def constrain(self, network: Any, config: Any, spec: PlanSpec, source: Path) -> int:
        """Make the `network`, parsed from the file `source`, that of `spec`; returns how many layers it touched."""

    @abstractmethod
    def watch(self, config: Any, progress: Callable[[str], None]) -> bool:
        """Have the builder report its progress; False where it cannot."""


def network_tensors(network: Any) -> list[Any]:
    """The inputs of a network, then its outputs."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    return inputs + [network.get_output(index) for index in range(network.num_outputs)]
