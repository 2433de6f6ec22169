"""Group normalisation as average pooling, which TensorRT 8.6 computes faster than a layer that normalises rows.

TensorRT 8.6 computes convolutions channels last, and LayerNormalization rows first: each norm costs two changes of
layout beside its own three passes. Means by pooling and arithmetic by channel keep the layout.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from musetalk_engines.trt.graph.onnx_graph import OnnxGraph, attribute
from musetalk_runtime.core.arrays import Array

POOL_SIDE = 8  # pixels a side that the first of two poolings takes together
MIN_SIDE = 64  # pixels of a picture's side; below, the many small kernels cost more than the layout
SQUARE_SCALE = 1 / 8  # of what is squared, so that FP16 holds squares of up to 2000
MIN_EPSILON = 2.0**-24  # the smallest number of FP16


@dataclass(frozen=True)
class GroupNorm:
    """A group norm of ``[N, C, H, W]`` as it is exported: Reshape, LayerNormalization, Reshape, Mul, Add.

    ``gamma`` and ``beta`` are ``[C]``; ``side`` is H and W, ``groups`` how many the channels are split in.
    """

    nodes: list[NodeProto]
    gamma: Array
    beta: Array
    groups: int
    side: int
    epsilon: float


def pool_norms(graph: OnnxGraph) -> int:
    """Replace the group norms of pictures of at least MIN_SIDE pixels a side; returns how many."""
    norms = [norm for node in graph.nodes if (norm := _group_norm(graph, node))]
    norms = [norm for norm in norms if norm.side >= MIN_SIDE and norm.side % POOL_SIDE == 0]
    for norm in norms:
        graph.replace(norm.nodes, _pooled(graph, norm))
    return len(norms)


def _group_norm(graph: OnnxGraph, node: NodeProto) -> GroupNorm | None:
    if node.op_type != "LayerNormalization" or not _is_plain(graph, node):
        return None
    nodes = _around(graph, node)
    if [found.op_type for found in nodes] != ["Reshape", "LayerNormalization", "Reshape", "Mul", "Add"]:
        return None
    gamma, beta = (_constant_of(graph, found) for found in nodes[3:])
    if not graph.is_constant(nodes[0].input[1]) or gamma is None or beta is None:
        return None
    shape, row = graph.constant(nodes[0].input[1]), graph.constant(node.input[1])
    side = int(np.sqrt(row.size * shape[1] / gamma.size) + 0.5)
    return GroupNorm(nodes, gamma, beta, int(shape[1]), side, float(attribute(node, "epsilon", 1e-5)))


def _is_plain(graph: OnnxGraph, node: NodeProto) -> bool:
    """Whether its rows get no scale and no shift of their own: a group norm's are by channel, in what follows."""
    if not all(map(graph.is_constant, node.input[1:])):
        return False
    scale, *shift = (graph.constant(name) for name in node.input[1:])
    return bool((scale == 1).all()) and not any(values.any() for values in shift)


def _around(graph: OnnxGraph, node: NodeProto) -> list[NodeProto]:
    """The node that makes its input, itself, and up to three after it that nothing else reads beside."""
    makers, readers = graph.makers(), graph.readers()
    nodes = [makers[node.input[0]], node] if node.input[0] in makers else [node]
    while len(nodes) < 5 and len(following := readers.get(nodes[-1].output[0], [])) == 1:
        nodes.append(following[0])
    return nodes


def _constant_of(graph: OnnxGraph, node: NodeProto) -> Array | None:
    """The constant operand of `node`, flat."""
    found = [graph.constant(name) for name in node.input if graph.is_constant(name)]
    return found[0].reshape(-1) if found else None


def _pooled(graph: OnnxGraph, norm: GroupNorm) -> list[NodeProto]:
    """``x * scale + shift`` with both from the means of ``x`` and ``(x / 8) ** 2`` over each group's pixels."""
    build = _Builder(graph, norm.nodes[1].name, norm.nodes[-1].output[0])
    x, channels = norm.nodes[0].input[0], norm.gamma.size
    size = channels // norm.groups
    build.constant("groups", np.kron(np.eye(norm.groups), np.full((size, size), 1 / size)))
    build.constant("shrink", SQUARE_SCALE)
    build.constant("epsilon", max(norm.epsilon * SQUARE_SCALE**2, MIN_EPSILON))
    build.constant("gamma", norm.gamma * SQUARE_SCALE)
    build.constant("beta", norm.beta)
    build.constant("by_channel", np.array([-1, channels, 1, 1]))
    build.node("Mul", "small", x, "shrink")
    build.node("Mul", "squared", "small", "small")
    pooling = {"kernel_shape": [POOL_SIDE] * 2, "strides": [POOL_SIDE] * 2}
    for name, source in (("mean", x), ("square", "squared")):
        build.node("AveragePool", f"{name}/cells", source, **pooling)
        build.node("GlobalAveragePool", f"{name}/pooled", f"{name}/cells")
        build.node("Flatten", f"{name}/channels", f"{name}/pooled")
        build.node("MatMul", name, f"{name}/channels", "groups")  # [N, C], the same for all of a group
    build.node("Mul", "small_mean", "mean", "shrink")
    build.node("Mul", "mean_squared", "small_mean", "small_mean")
    build.node("Sub", "variance", "square", "mean_squared")
    build.node("Relu", "not_below_zero", "variance")  # as rounding may leave it
    build.node("Add", "above_zero", "not_below_zero", "epsilon")
    build.node("Sqrt", "deviation", "above_zero")
    build.node("Div", "scale", "gamma", "deviation")
    build.node("Mul", "scaled_mean", "mean", "scale")
    build.node("Sub", "shift", "beta", "scaled_mean")
    for name in ("scale", "shift"):
        build.node("Reshape", f"{name}/by_channel", name, "by_channel")
    build.node("Mul", "scaled", x, "scale/by_channel")
    build.node("Add", norm.nodes[-1].output[0], "scaled", "shift/by_channel")
    return build.nodes


class _Builder:
    """Nodes and tensors whose names begin with a prefix, but for the tensor `last`."""

    def __init__(self, graph: OnnxGraph, prefix: str, last: str) -> None:
        self._graph, self._prefix = graph, prefix
        self._names: dict[str, str] = {last: last}
        self.nodes: list[NodeProto] = []

    def constant(self, name: str, value: npt.ArrayLike) -> None:
        self._names[name] = self._graph.add_constant(f"{self._prefix}/{name}", value)

    def node(self, kind: str, output: str, *inputs: str, **attributes: Any) -> None:
        """Names that are none of its own are the graph's."""
        found = [self._names.get(name, name) for name in inputs]
        made = self._names.setdefault(output, f"{self._prefix}/{output}")
        self.nodes.append(helper.make_node(kind, found, [made], name=f"{made}/{kind}", **attributes))
