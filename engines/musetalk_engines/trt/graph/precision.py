"""The types of an ONNX graph changed: FP32 throughout, or attention's products in FP32."""

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
    shape_inference,
)

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def attention_products(model: ModelProto) -> list[NodeProto]:
    """The MatMul nodes of two activations: attention has them, and nothing else in these graphs does."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants.update(name for node in model.graph.node if node.op_type == "Constant" for name in node.output)
    return [node for node in model.graph.node if node.op_type == "MatMul" and not constants.intersection(node.input)]


def to_float(model: ModelProto, *, half_io: bool) -> ModelProto:
    """Make an FP16 graph FP32, weights included; with `half_io` its inputs and outputs stay FP16, behind Cast nodes.

    Its FP32 islands are none any more: their Cast nodes are dropped, so that it is the graph of an FP32 export.

    Changed in place and returned, tensor by tensor: large weights are never in memory several times.
    """
    graph = model.graph
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen_attributes(node)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == HALF:
            if half_io:
                _cast_at_edge(graph, value.name, is_input=value in graph.input)
            else:
                value.type.tensor_type.elem_type = FLOAT
    del graph.value_info[:]
    _drop_casts(model)
    return model


def attention_to_float(model: ModelProto) -> ModelProto:
    """Compute attention's products in FP32 in an FP16 graph whose softmax is an FP32 island already.

    Changed in place and returned.
    """
    products = {node.name for node in attention_products(model)}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.name not in products:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            nodes.append(_cast(name, f"{node.name}/float{index}", FLOAT))
            node.input[index] = f"{node.name}/float{index}"
        output = node.output[0]
        node.output[0] = f"{node.name}/float"
        nodes += [node, _cast(node.output[0], output, HALF)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _join_islands(model.graph)
    del model.graph.value_info[:]
    return model


def _join_islands(graph: GraphProto) -> None:
    """Between neighbouring islands, drop the rounding: what reads FP32 from FP16 from FP32 reads the first."""
    casts = {node.output[0]: (node.input[0], _target(node)) for node in graph.node if node.op_type == "Cast"}
    for node in graph.node:
        for index, name in enumerate(node.input):
            half, kind = casts.get(name, ("", 0))
            source, inner = casts.get(half, ("", 0))
            if (kind, inner) == (FLOAT, HALF):
                node.input[index] = source
    used = {value.name for value in graph.output}
    nodes: list[NodeProto] = []
    for node in reversed(graph.node):  # readers before makers
        if node.op_type != "Cast" or node.output[0] in used:
            nodes.append(node)
            used.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(nodes))


def _drop_casts(model: ModelProto) -> None:
    """Drop the casts of a type to itself, but for those that make outputs."""
    graph, kinds = model.graph, _kinds(model)
    outputs = {value.name for value in graph.output}
    sources: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = sources.get(name, name)
        if node.op_type == "Cast" and kinds.get(node.input[0]) == _target(node) and node.output[0] not in outputs:
            sources[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _kinds(model: ModelProto) -> dict[str, int]:
    """The element types of all tensors that can be told, found without the weights' values."""
    weights = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    ]
    graph = helper.make_graph(model.graph.node, "types", [*model.graph.input, *weights], model.graph.output)
    light = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    inferred = shape_inference.infer_shapes(light).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.input)}


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _widen_attributes(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
    if node.op_type == "Cast" and _target(node) == HALF:
        node.attribute[0].i = FLOAT


def _cast_at_edge(graph: GraphProto, name: str, *, is_input: bool) -> None:
    inner = f"{name}/float"
    for node in graph.node:
        for names in (node.input, node.output):
            for index, found in enumerate(names):
                if found == name:
                    names[index] = inner
    if is_input:
        graph.node.insert(0, _cast(name, inner, FLOAT))
    else:
        graph.node.append(_cast(inner, name, HALF))


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=kind)


def _target(node: NodeProto) -> int:
    return int(next(attribute.i for attribute in node.attribute if attribute.name == "to"))
