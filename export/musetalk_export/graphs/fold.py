"""Constant folding of a traced graph, with equal initializers merged."""

import hashlib

import onnx_graphsurgeon as gs
from onnx import GraphProto, ModelProto, numpy_helper


def fold(model: ModelProto) -> ModelProto:
    """`model` with constants folded, equal initializers merged, and without what no output depends on.

    `model` may be used up. ONNX Runtime computes the constants; raises what it does if it cannot.
    """
    graph = gs.import_onnx(model)
    folded: ModelProto = gs.export_onnx(graph.fold_constants(error_ok=False).cleanup())
    _merge_initializers(folded.graph)
    return folded


def _merge_initializers(graph: GraphProto) -> None:
    """Keep the first of equal initializers: the exporter gives each layer ones, zeros and shapes of its own.

    graphsurgeon does not merge them. ONNX Runtime's OnnxModel does, but takes almost equal weights for equal.
    """
    first: dict[bytes, str] = {}
    alias: dict[str, str] = {}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).digest()
        alias[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
    for index in reversed(range(len(graph.initializer))):
        if alias[graph.initializer[index].name] != graph.initializer[index].name:
            del graph.initializer[index]
