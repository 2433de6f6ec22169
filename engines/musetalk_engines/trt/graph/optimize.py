"""The same arithmetic, in a form that TensorRT 8.6 is quicker at.

Rewritten so, Stable Diffusion's VAE decoder takes a fifth less time on an H200. TensorRT 10 and later have kernels of
their own for some of this, and nobody has measured there what it would gain or cost: they get what was exported.
"""

from onnx import ModelProto

from musetalk_engines.trt.graph.onnx_graph import OnnxGraph
from musetalk_engines.trt.graph.pooled_norm import pool_norms
from musetalk_engines.trt.graph.residual import part_residuals
from musetalk_engines.trt.graph.upsampling import fold_upsampling


def quicken(model: ModelProto) -> dict[str, int]:
    """Rewrite an FP32 graph in place; returns how often each rewriting applied."""
    graph = OnnxGraph(model)
    done = {"upsampling": fold_upsampling(graph), "norms": pool_norms(graph), "residuals": part_residuals(graph)}
    graph.drop_unread()
    return done
