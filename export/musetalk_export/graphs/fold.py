"""Constant folding of a traced graph, with equal initializers merged and unused ones removed."""

import hashlib

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator


def fold(model: ModelProto) -> ModelProto:
    """`model`, changed in place: constants folded, equal initializers merged, and what nothing reads removed."""
    graph = model.graph
    _fold_constants(graph, model.opset_import[0].version)
    _merge_initializers(graph)
    _prune(graph)
    del graph.value_info[:]
    return model


def _fold_constants(graph: GraphProto, opset: int) -> None:
    """Evaluate every node whose inputs are all constant; nodes are in topological order.

    The exporter folds what it does with weights by itself; what it leaves is bookkeeping on shapes.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    alias: dict[str, str] = {}
    kept = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        elif _is_constant(node, constants):
            for tensor in _evaluate(node, constants, opset):
                constants[tensor.name] = tensor
                graph.initializer.append(tensor)
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _is_constant(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    return all(not name or name in constants for name in node.input)


def _evaluate(node: NodeProto, constants: dict[str, TensorProto], opset: int) -> list[TensorProto]:
    feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_tensor_value_info(name, constants[name].data_type, None) for name in feeds],
        [onnx.helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    values = ReferenceEvaluator(model).run(None, feeds)
    return [numpy_helper.from_array(value, name) for value, name in zip(values, node.output, strict=True)]


def _merge_initializers(graph: GraphProto) -> None:
    first: dict[bytes, str] = {}
    alias = {}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).digest()
        alias[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]


def _prune(graph: GraphProto) -> None:
    """Drop nodes and initializers that no output depends on."""
    wanted = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    if len(nodes) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(nodes))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in wanted:
            del graph.initializer[index]
