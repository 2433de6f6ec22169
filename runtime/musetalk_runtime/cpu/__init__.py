"""The chain that composes on the CPU: ONNX Runtime, there or on a GPU, and OpenCV."""
