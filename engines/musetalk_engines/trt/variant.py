"""The ladder: how a graph can be built, from the fastest to the safest. Each rung adds to the one before.

TensorRT 8.6 types weakly: the FP16 flag lets it choose, and precisions asked of layers bind it. From 10 on it types
strongly: a plan computes in the types that its ONNX graph says. So a rung is reached in one of two ways:

| rung | 8.6: asked of layers | 10 and later: changed in the graph or the network |
| --- | --- | --- |
| as built | nothing: FP16 wherever TensorRT likes, in a graph made quicker | the FP16 graph, with its FP32 islands |
| attention unfused | softmax in FP32, in the graph as exported | softmax outputs are debug tensors: not fused away |
| fp32 attention and norms | and attention's products and the norms | and attention's products (the norms are islands) |
| fp32 | every layer that computes floats | every type in the graph; Cast nodes at inputs and outputs |

For graphs made quicker see ``quicken``. A debug tensor is written only if a runtime asks for it. FP32 is FP32: TF32 is
off on every rung. From an fp16 model set the weights of the last rung are still those that the export rounded.
"""

AS_BUILT, UNFUSED, GUARDED, FLOAT = "as built", "attention unfused", "fp32 attention and norms", "fp32"


def ladder(precision: str, *, strongly_typed: bool) -> tuple[str, ...]:
    """The variants to try, in order. TensorRT 8.6 has no fused attention in FP32 that could be taken apart."""
    if precision == "fp16":
        return AS_BUILT, UNFUSED, GUARDED, FLOAT
    return (AS_BUILT, UNFUSED) if strongly_typed else (AS_BUILT,)
