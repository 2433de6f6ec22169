"""A graph rewritten to the same arithmetic, in a form that TensorRT 8.6 computes faster.

Optimized so, Stable Diffusion's VAE decoder takes a fifth less time on an H200. TensorRT 10 and later have kernels of
their own for some of this, and nobody has measured there what it would gain or cost: they get what was exported.
"""

import onnx_graphsurgeon as gs

from musetalk_engines.trt.graph.pooled_norm import pool_norms
from musetalk_engines.trt.graph.upsampling import fold_upsampling


def optimize_graph(graph: gs.Graph) -> dict[str, int]:
    """Rewrite an FP32 graph in place; returns how often each rewriting applied."""
    done = {"upsampling": fold_upsampling(graph), "norms": pool_norms(graph), "residuals": split_residuals(graph)}
    graph.cleanup().toposort()
    return done


def split_residuals(graph: gs.Graph) -> int:
    """Turn ``x + convolution`` into ``x - (-convolution)`` for 3x3 convolutions, weights negated; returns how many.

    TensorRT 8.6 fuses the sum into the convolution, and then takes a kernel that is half as slow again: more than the
    sum costs by itself. It fuses no difference.
    """
    split = 0
    for node in graph.nodes:
        if node.op != "Add" or any(isinstance(tensor, gs.Constant) for tensor in node.inputs):
            continue
        own = [tensor for tensor in node.inputs if any(map(_is_own, tensor.inputs))]
        if not own:
            continue
        _negate(own[0].inputs[0])
        others = [tensor for tensor in node.inputs if tensor is not own[0]]
        node.op = "Sub"
        node.inputs = [*others, own[0]]
        split += 1
    return split


def _is_own(node: gs.Node) -> bool:
    """Whether `node` is a 3x3 convolution that one node reads."""
    return node.op == "Conv" and node.attrs.get("kernel_shape") == [3, 3] and len(node.outputs[0].outputs) == 1


def _negate(convolution: gs.Node) -> None:
    """Give it weights of its own, negated: other convolutions may share those that it had."""
    x, *weights = convolution.inputs
    name = convolution.outputs[0].name
    convolution.inputs = [x, *(gs.Constant(f"{name}/{tensor.name}/negated", -tensor.values) for tensor in weights)]
