"""TensorRT 8.6: weakly typed networks, which get FP32 graphs, the FP16 flag, and precisions asked of single layers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.family import (
    AS_BUILT,
    FP32,
    FP32_ATTENTION,
    UNFUSED_ATTENTION,
    Family,
    PlanSpec,
    network_tensors,
)
from musetalk_engines.trt.graph.optimize import optimize_graph
from musetalk_engines.trt.graph.precision import attention_products, to_float

OPTIMIZED_GRAPH = "vae_decoder"  # 85% of a frame's work; the UNet gains a fortieth, and takes minutes longer to build


class WeaklyTyped(Family):
    """Layers get FP16 where that is faster, except where they are asked for FP32. So variants are asked of layers.

    | variant | what is asked for FP32 |
    | --- | --- |
    | as built | nothing; the decoder is parsed from an optimized graph (see ``optimize_graph``) |
    | attention unfused | softmax, in the graph as exported, from here on |
    | fp32 attention and norms | softmax, attention's products, and the norms |
    | fp32 | every layer that computes floats |
    """

    versions = "8.6"

    def supports(self, major: int, minor: int) -> bool:
        return (8, 6) <= (major, minor) < (9, 0)

    def fallbacks(self, precision: str) -> tuple[str, ...]:
        """In FP32 this TensorRT has no fused attention that could be taken apart."""
        if precision == "fp16":
            return AS_BUILT, UNFUSED_ATTENTION, FP32_ATTENTION, FP32
        return (AS_BUILT,)

    def check_precision(self, models: ModelSet, precision: str) -> None:
        """All will do: what is FP16 is decided here."""

    def rewriting(self, spec: PlanSpec, models: ModelSet) -> Callable[[ModelProto], ModelProto] | None:
        """Graphs always get FP32 types."""
        optimized = spec == PlanSpec(OPTIMIZED_GRAPH, "fp16", AS_BUILT)
        if models.precision == "fp32":
            return _optimized if optimized else None
        return _optimized_float if optimized else partial(to_float, half_io=False)

    def network_flags(self) -> int:
        return 1 << int(self.tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    def constrain(self, network: Any, config: Any, spec: PlanSpec, source: Path) -> int:
        """No cuBLAS and no cuDNN; FP16 arithmetic, inputs and outputs, and the FP32 layers of the variant.

        Contexts of several sessions may use one profile at a time, as they do from TensorRT 10 on.
        """
        trt = self.tensorrt
        _leave_out_libraries(trt, config)
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
        if spec.precision == "fp32":
            return 0
        config.set_flag(trt.BuilderFlag.FP16)
        for tensor in network_tensors(network):
            tensor.dtype = trt.DataType.HALF
        if spec.variant == AS_BUILT:
            return 0
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        products = {node.name for node in attention_products(onnx.load(source, load_external_data=False))}
        layers = [layer for layer in _float_layers(trt, network) if _is_float(trt, layer, spec.variant, products)]
        for layer in layers:
            layer.precision = trt.DataType.FLOAT
            if not layer.get_output(0).is_network_output:
                layer.set_output_type(0, trt.DataType.FLOAT)
        return len(layers)

    def watch(self, config: Any, progress: Callable[[str], None]) -> bool:  # noqa: ARG002
        """8.6 has no progress monitor."""
        return False


def _optimized_float(model: ModelProto) -> ModelProto:
    return _optimized(to_float(model, half_io=False))


def _optimized(model: ModelProto) -> ModelProto:
    graph = gs.import_onnx(model)
    optimize_graph(graph)
    optimized: ModelProto = gs.export_onnx(graph)
    return optimized


def _leave_out_libraries(trt: Any, config: Any) -> None:
    """A device that runs plans need not have cuBLAS or cuDNN."""
    libraries = (trt.TacticSource.CUBLAS, trt.TacticSource.CUBLAS_LT, trt.TacticSource.CUDNN)
    left_out = sum(1 << int(library) for library in libraries)
    config.set_tactic_sources(config.get_tactic_sources() & ~left_out)


def _float_layers(trt: Any, network: Any) -> list[Any]:
    """The layers that compute floats; constants have no arithmetic."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [
        layer
        for layer in layers
        if layer.type != trt.LayerType.CONSTANT
        and layer.num_outputs == 1
        and layer.get_output(0).dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
    ]


def _is_float(trt: Any, layer: Any, variant: str, products: set[str]) -> bool:
    """Whether `layer` is FP32 in `variant`; a layer has the name of its ONNX node, `products` those of attention's."""
    if variant == FP32 or layer.type == trt.LayerType.SOFTMAX:
        return True
    return variant == FP32_ATTENTION and (layer.type == trt.LayerType.NORMALIZATION or layer.name in products)
