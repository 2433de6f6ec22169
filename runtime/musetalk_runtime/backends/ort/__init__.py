"""ONNX Runtime, on a CPU or a GPU, with composition on the CPU."""
