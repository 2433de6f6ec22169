"""A graph rewritten to the same arithmetic, in a form that TensorRT 8.6 computes faster.

Optimized so, Stable Diffusion's VAE decoder takes a fifth less time on an H200. TensorRT 10 and later have kernels of
their own for some of this, and nobody has measured there what it would gain or cost: they get what was exported.
"""

from onnx import ModelProto, NodeProto

from musetalk_engines.trt.graph.onnx_graph import OnnxGraph, attribute
from musetalk_engines.trt.graph.pooled_norm import pool_norms
from musetalk_engines.trt.graph.upsampling import fold_upsampling


def optimize_graph(model: ModelProto) -> dict[str, int]:
    """Rewrite an FP32 graph in place; returns how often each rewriting applied."""
    graph = OnnxGraph(model)
    done = {"upsampling": fold_upsampling(graph), "norms": pool_norms(graph), "residuals": split_residuals(graph)}
    graph.drop_unread()
    return done


def split_residuals(graph: OnnxGraph) -> int:
    """Turn ``x + convolution`` into ``x - (-convolution)`` for 3x3 convolutions, weights negated; returns how many.

    TensorRT 8.6 fuses the sum into the convolution, and then takes a kernel that is half as slow again: more than the
    sum costs by itself. It fuses no difference.
    """
    readers, makers, split = graph.readers(), graph.makers(), 0
    for node in graph.nodes:
        if node.op_type != "Add" or any(map(graph.is_constant, node.input)):
            continue
        own = [maker for name in node.input if (maker := makers.get(name)) and _is_own(maker, readers)]
        if not own:
            continue
        own[0].input[1:] = [graph.add_constant(f"{name}/negated", -graph.constant(name)) for name in own[0].input[1:]]
        others = [name for name in node.input if name != own[0].output[0]]
        node.op_type = "Sub"
        node.input[:] = [*others, own[0].output[0]]
        split += 1
    return split


def _is_own(node: NodeProto, readers: dict[str, list[NodeProto]]) -> bool:
    """Whether `node` is a 3x3 convolution that one node reads."""
    return node.op_type == "Conv" and attribute(node, "kernel_shape") == [3, 3] and len(readers[node.output[0]]) == 1
