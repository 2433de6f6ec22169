"""The conversion of an FP32 graph to FP16, with islands that stay in FP32."""

from pathlib import Path

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Sums over thousands of values, and exponentials: their inputs fit FP16, what they compute on the way does not.
# GroupNorm's statistics are a LayerNormalization too.
FP32_OPERATORS = ["LayerNormalization", "Softmax"]


def to_half(file: Path) -> ModelProto:
    """The FP32 graph in `file` as FP16, the nodes of type ``FP32_OPERATORS`` in FP32 between Cast nodes."""
    # By path: shape inference, which the conversion needs, takes no more than 2 GB otherwise.
    model: ModelProto = convert_float_to_float16(str(file), op_block_list=FP32_OPERATORS)
    del model.graph.value_info[:]
    OnnxModel(model).topological_sort()  # in place, without a copy of the weights; the Cast nodes are at the end before
    return model
