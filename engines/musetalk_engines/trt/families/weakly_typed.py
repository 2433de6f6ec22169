"""TensorRT 8.6: FP32 graphs, the FP16 flag, and precisions asked of single layers."""

from collections.abc import Callable
from typing import Any

import onnx
import tensorrt as trt

from musetalk_engines.trt.graph.graph import attention_products
from musetalk_engines.trt.plan_spec import Wanted
from musetalk_engines.trt.variant import AS_BUILT, FLOAT, GUARDED


class Weak:
    """Layers get FP16 where that is faster, except where they are asked for FP32."""

    def network_flags(self) -> int:
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    def constrain(self, network: Any, config: Any, wanted: Wanted) -> int:
        """No cuBLAS and no cuDNN; FP16 arithmetic, inputs and outputs, and the FP32 layers of the variant.

        Contexts of several sessions may use one profile at a time, as they do from TensorRT 10 on.
        """
        _leave_out_libraries(config)
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
        if wanted.precision == "fp32":
            return 0
        config.set_flag(trt.BuilderFlag.FP16)
        tensors = [network.get_input(index) for index in range(network.num_inputs)]
        tensors += [network.get_output(index) for index in range(network.num_outputs)]
        for tensor in tensors:
            tensor.dtype = trt.DataType.HALF
        if wanted.variant == AS_BUILT:
            return 0
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        products = {node.name for node in attention_products(onnx.load(wanted.source, load_external_data=False))}
        layers = [layer for layer in _float_layers(network) if _is_float(layer, wanted.variant, products)]
        for layer in layers:
            layer.precision = trt.DataType.FLOAT
            if not layer.get_output(0).is_network_output:
                layer.set_output_type(0, trt.DataType.FLOAT)
        return len(layers)

    def watch(self, _config: Any, _progress: Callable[[str], None]) -> bool:
        """8.6 has no progress monitor."""
        return False


def _leave_out_libraries(config: Any) -> None:
    """A device that runs plans need not have cuBLAS or cuDNN."""
    libraries = (trt.TacticSource.CUBLAS, trt.TacticSource.CUBLAS_LT, trt.TacticSource.CUDNN)
    left_out = sum(1 << int(library) for library in libraries)
    config.set_tactic_sources(config.get_tactic_sources() & ~left_out)


def _float_layers(network: Any) -> list[Any]:
    """The layers that compute floats; constants have no arithmetic."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [
        layer
        for layer in layers
        if layer.type != trt.LayerType.CONSTANT
        and layer.num_outputs == 1
        and layer.get_output(0).dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
    ]


def _is_float(layer: Any, variant: str, products: set[str]) -> bool:
    """Whether `layer` is FP32 in `variant`; a layer has the name of its ONNX node, `products` those of attention's."""
    if variant == FLOAT or layer.type == trt.LayerType.SOFTMAX:
        return True
    return variant == GUARDED and (layer.type == trt.LayerType.NORMALIZATION or layer.name in products)
