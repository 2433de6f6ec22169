"""TensorRT 10 and 11: strongly typed networks, which compute in the types that their ONNX graph says."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from onnx import ModelProto

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.family import (
    AS_BUILT,
    FP32,
    FP32_ATTENTION,
    UNFUSED_ATTENTION,
    Family,
    PlanSpec,
)
from musetalk_engines.trt.graph.precision import attention_to_float, to_float
from musetalk_runtime.core.errors import InvalidArgument

PROGRESS_INTERVAL_S = 5.0  # at least, between two lines


class StronglyTyped(Family):
    """Variants are changes of the graph, or of the network.

    | variant | what is parsed, and what is changed in the network |
    | --- | --- |
    | as built | the graph as exported, with its FP32 islands |
    | attention unfused | the same; softmax outputs are debug tensors, and so are not fused away |
    | fp32 attention and norms | attention's products in FP32, too (the norms are islands already); debug tensors |
    | fp32 | every type in the graph is FP32, with Cast nodes at inputs and outputs; debug tensors |

    A debug tensor is written only if a runtime asks for it.
    """

    versions = "10 and later"

    def supports(self, major: int, minor: int) -> bool:  # noqa: ARG002
        return major >= 10

    def fallbacks(self, precision: str) -> tuple[str, ...]:
        if precision == "fp16":
            return AS_BUILT, UNFUSED_ATTENTION, FP32_ATTENTION, FP32
        return AS_BUILT, UNFUSED_ATTENTION

    def check_precision(self, models: ModelSet, precision: str) -> None:
        """What is FP16 was decided and checked at export: an fp32 graph would give an FP32 plan without asking."""
        if precision == "fp16" and models.precision != "fp16":
            raise InvalidArgument(
                f"{models.path} is {models.precision}, and TensorRT 10 and later build what the graph says: export it "
                "with --fp16, or pass --precision fp32"
            )

    def rewriting(self, spec: PlanSpec, models: ModelSet) -> Callable[[ModelProto], ModelProto] | None:
        if models.precision == "fp32":
            return None
        if spec.precision == "fp32":
            return partial(to_float, half_io=False)
        if spec.variant == FP32_ATTENTION:
            return attention_to_float
        return partial(to_float, half_io=True) if spec.variant == FP32 else None

    def network_flags(self) -> int:
        return 1 << int(self.tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def constrain(self, network: Any, config: Any, spec: PlanSpec, source: Path) -> int:  # noqa: ARG002
        """Keep softmax from being fused with its neighbours, in all variants but the first."""
        if spec.variant == AS_BUILT:
            return 0
        trt = self.tensorrt
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        layers = [layer for layer in layers if layer.type == trt.LayerType.SOFTMAX]
        for layer in layers:
            network.mark_debug(layer.get_output(0))
        return len(layers)

    def watch(self, config: Any, progress: Callable[[str], None]) -> bool:
        config.progress_monitor = _progress_monitor(self.tensorrt, progress)
        return True


def _progress_monitor(trt: Any, progress: Callable[[str], None]) -> Any:
    """Reports the builder's outermost phase, at most a line every PROGRESS_INTERVAL_S."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from the builder's threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._last = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            now = time.monotonic()
            if phase_name in self._steps and now - self._last >= PROGRESS_INTERVAL_S:
                self._last = now
                progress(f"{phase_name}: step {step + 1} of {self._steps[phase_name]}")
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
