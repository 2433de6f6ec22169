"""ONNX graphs, and how they are rewritten before TensorRT parses them."""
