"""The conversion of an FP32 graph to FP16, with islands that stay in FP32."""

from pathlib import Path

from onnx import ModelProto
from onnxruntime.transformers.float16 import convert_float_to_float16

# Sums over thousands of values, and exponentials: their inputs fit FP16, what they compute on the way does not.
# GroupNorm's statistics are a LayerNormalization too.
FP32_OPERATORS = ["LayerNormalization", "Softmax"]


def to_half(file: Path) -> ModelProto:
    """The FP32 graph in `file` as FP16, the nodes of type ``FP32_OPERATORS`` in FP32 between Cast nodes."""
    # By path: shape inference, which the conversion needs, takes no more than 2 GB otherwise.
    model: ModelProto = convert_float_to_float16(str(file), op_block_list=FP32_OPERATORS)
    del model.graph.value_info[:]
    _sort(model)
    return model


def _sort(model: ModelProto) -> None:
    """Put every node after those it reads from: the conversion appends its Cast nodes at the end."""
    maker = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    nodes = list(model.graph.node)
    order: list[int] = []
    done: set[int] = set()
    stack = list(reversed(range(len(nodes))))
    while stack:
        index = stack[-1]
        waiting = [maker[name] for name in nodes[index].input if name in maker and maker[name] not in done]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if index not in done:
            done.add(index)
            order.append(index)
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in order)
