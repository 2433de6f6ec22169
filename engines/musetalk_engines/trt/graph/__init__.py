"""ONNX graphs, and how they are rewritten for TensorRT 8.6."""
