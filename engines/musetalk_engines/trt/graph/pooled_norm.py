"""Group normalisation as average pooling, which TensorRT 8.6 computes faster than a layer that normalises rows.

TensorRT 8.6 computes convolutions channels last, and LayerNormalization rows first: each norm costs two changes of
layout beside its own three passes. Means by pooling and arithmetic by channel keep the layout.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

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

    nodes: list[gs.Node]
    gamma: Array
    beta: Array
    groups: int
    side: int
    epsilon: float


def pool_norms(graph: gs.Graph) -> int:
    """Replace the group norms of pictures of at least MIN_SIDE pixels a side; returns how many.

    The nodes that replace one are at the end of the graph's, and those that nothing reads any more are still there.
    """
    norms = [norm for node in graph.nodes if (norm := _group_norm(node))]
    norms = [norm for norm in norms if norm.side >= MIN_SIDE and norm.side % POOL_SIDE == 0]
    for norm in norms:
        _pool(graph, norm)
    return len(norms)


def _group_norm(node: gs.Node) -> GroupNorm | None:
    if node.op != "LayerNormalization" or not _is_plain(node):
        return None
    nodes = _around(node)
    if [found.op for found in nodes] != ["Reshape", "LayerNormalization", "Reshape", "Mul", "Add"]:
        return None
    shape, gamma, beta = (_constant_of(found) for found in (nodes[0], *nodes[3:]))
    if shape is None or gamma is None or beta is None:
        return None
    side = int(np.sqrt(node.inputs[1].values.size * shape[1] / gamma.size) + 0.5)
    return GroupNorm(nodes, gamma, beta, int(shape[1]), side, float(node.attrs.get("epsilon", 1e-5)))


def _is_plain(node: gs.Node) -> bool:
    """Whether its rows get no scale and no shift of their own: a group norm's are by channel, in what follows."""
    scale, *shift = node.inputs[1:]
    if not all(isinstance(tensor, gs.Constant) for tensor in (scale, *shift)):
        return False
    return bool((scale.values == 1).all()) and not any(tensor.values.any() for tensor in shift)


def _around(node: gs.Node) -> list[gs.Node]:
    """The node that makes its input, itself, and up to three after it that nothing else reads beside."""
    nodes = [*node.inputs[0].inputs, node]
    while len(nodes) < 5 and len(following := nodes[-1].outputs[0].outputs) == 1:
        nodes.append(following[0])
    return nodes


def _constant_of(node: gs.Node) -> Array | None:
    """The constant operand of `node`, flat."""
    found = [tensor.values for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    return found[0].reshape(-1) if found else None


def _pool(graph: gs.Graph, norm: GroupNorm) -> None:
    """``x * scale + shift`` with both from the means of ``x`` and ``(x / 8) ** 2`` over each group's pixels."""
    x, y = norm.nodes[0].inputs[0], norm.nodes[-1].outputs[0]
    channels = norm.gamma.size
    size = channels // norm.groups
    build = _Builder(graph, norm.nodes[1].name)
    groups = build.constant("groups", np.kron(np.eye(norm.groups), np.full((size, size), 1 / size)))
    shrink = build.constant("shrink", SQUARE_SCALE)
    epsilon = build.constant("epsilon", max(norm.epsilon * SQUARE_SCALE**2, MIN_EPSILON))
    gamma = build.constant("gamma", norm.gamma * SQUARE_SCALE)
    beta = build.constant("beta", norm.beta)
    by_channel = build.constant("by_channel", np.array([-1, channels, 1, 1]))

    def mean_of(name: str, source: gs.Tensor) -> gs.Tensor:
        """``[N, C]``, the same for all of a group."""
        pooling = {"kernel_shape": [POOL_SIDE] * 2, "strides": [POOL_SIDE] * 2}
        cells = build.node("AveragePool", f"{name}/cells", source, **pooling)
        pooled = build.node("GlobalAveragePool", f"{name}/pooled", cells)
        return build.node("MatMul", name, build.node("Flatten", f"{name}/channels", pooled), groups)

    small = build.node("Mul", "small", x, shrink)
    mean, square = mean_of("mean", x), mean_of("square", build.node("Mul", "squared", small, small))
    small_mean = build.node("Mul", "small_mean", mean, shrink)
    variance = build.node("Sub", "variance", square, build.node("Mul", "mean_squared", small_mean, small_mean))
    variance = build.node("Relu", "not_below_zero", variance)  # as rounding may leave it
    deviation = build.node("Sqrt", "deviation", build.node("Add", "above_zero", variance, epsilon))
    scale = build.node("Div", "scale", gamma, deviation)
    shift = build.node("Sub", "shift", beta, build.node("Mul", "scaled_mean", mean, scale))
    scale, shift = (
        build.node("Reshape", f"{name}/by_channel", tensor, by_channel)
        for name, tensor in (("scale", scale), ("shift", shift))
    )
    y.inputs.clear()
    build.append("Add", [build.node("Mul", "scaled", x, scale), shift], y)


class _Builder:
    """Adds nodes to `graph`; the names of what they make, and of constants, begin with `prefix`."""

    def __init__(self, graph: gs.Graph, prefix: str) -> None:
        self._nodes, self._prefix = graph.nodes, prefix

    def constant(self, name: str, value: npt.ArrayLike) -> gs.Constant:
        """At least one axis; FP32 where `value` is not of integers."""
        array = np.atleast_1d(value)
        kind = array.dtype if np.issubdtype(array.dtype, np.integer) else np.float32
        return gs.Constant(f"{self._prefix}/{name}", array.astype(kind))

    def node(self, kind: str, output: str, *inputs: gs.Tensor, **attributes: Any) -> gs.Tensor:
        """The output of a new node."""
        made = gs.Variable(f"{self._prefix}/{output}")
        self.append(kind, inputs, made, **attributes)
        return made

    def append(self, kind: str, inputs: Iterable[gs.Tensor], output: gs.Tensor, **attributes: Any) -> None:
        self._nodes.append(gs.Node(kind, f"{output.name}/{kind}", attributes, [*inputs], [output]))
