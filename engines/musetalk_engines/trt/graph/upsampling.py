"""Upsampling and the convolution after it, folded into one transposed convolution."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from musetalk_engines.trt.graph.onnx_graph import OnnxGraph, attribute

Floats = npt.NDArray[np.floating]


def fold_upsampling(graph: OnnxGraph) -> int:
    """Replace each twofold nearest-neighbour Resize and the 3x3 convolution that reads it; returns how many.

    The convolution sees every pixel twice in each direction, so two of its three taps read the same pixel: one tap
    with the sum of both weights does. That leaves 4 of 9 multiplications, in exact arithmetic the same sums.
    """
    readers, folded = graph.readers(), 0
    for resize in [node for node in graph.nodes if _doubles(graph, node)]:
        convolutions = readers[resize.output[0]]
        if len(convolutions) == 1 and _is_plain(convolutions[0]):
            graph.replace([resize, convolutions[0]], [_transposed(graph, resize, convolutions[0])])
            folded += 1
    return folded


def _doubles(graph: OnnxGraph, node: NodeProto) -> bool:
    if node.op_type != "Resize" or attribute(node, "mode") != b"nearest":
        return False
    constant = len(node.input) > 2 and graph.is_constant(node.input[2])
    return constant and graph.constant(node.input[2]).tolist() == [1, 1, 2, 2]


def _is_plain(node: NodeProto) -> bool:
    """A 3x3 convolution over all channels, of stride 1, that keeps the size."""
    return (
        node.op_type == "Conv"
        and attribute(node, "kernel_shape") == [3, 3]
        and attribute(node, "pads") == [1, 1, 1, 1]
        and attribute(node, "strides", [1, 1]) == [1, 1]
        and attribute(node, "group", 1) == 1
    )


def _transposed(graph: OnnxGraph, resize: NodeProto, convolution: NodeProto) -> NodeProto:
    weights = graph.constant(convolution.input[1])
    folded = _fold(_fold(weights.astype(np.float64)).swapaxes(2, 3)).swapaxes(2, 3)
    name = graph.add_constant(f"{convolution.input[1]}/upsampled", folded.swapaxes(0, 1))  # [in, out, 4, 4]
    inputs = [resize.input[0], name, *convolution.input[2:]]
    shape: dict[str, Any] = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    return helper.make_node("ConvTranspose", inputs, convolution.output, name=convolution.name, **shape)


def _fold(taps: Floats) -> Floats:
    """Three taps on the last axis to the four of a transposed convolution, by how far a pixel's result lies from it."""
    before, at, after = np.moveaxis(taps, -1, 0)
    return np.stack([after, at + after, before + at, before], axis=-1)
