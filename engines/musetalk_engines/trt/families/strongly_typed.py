"""TensorRT 10 and 11: strongly typed networks."""

from collections.abc import Callable
from typing import Any

import tensorrt as trt

from musetalk_engines.trt.monitor import Monitor
from musetalk_engines.trt.plan_spec import Wanted
from musetalk_engines.trt.variant import AS_BUILT


class Strong:
    """Types come from the ONNX graph (see ``source``); attention is taken apart here."""

    def network_flags(self) -> int:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def constrain(self, network: Any, _config: Any, wanted: Wanted) -> int:
        """Keep softmax from being fused with its neighbours, on all rungs but the first."""
        if wanted.variant == AS_BUILT:
            return 0
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        layers = [layer for layer in layers if layer.type == trt.LayerType.SOFTMAX]
        for layer in layers:
            network.mark_debug(layer.get_output(0))
        return len(layers)

    def watch(self, config: Any, progress: Callable[[str], None]) -> bool:
        config.progress_monitor = Monitor(progress)
        return True
