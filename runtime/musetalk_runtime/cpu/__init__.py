"""The chain on the CPU: ONNX Runtime and OpenCV."""
