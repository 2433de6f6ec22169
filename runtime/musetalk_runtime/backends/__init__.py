"""What runs the models: the interface, ONNX Runtime, and TensorRT on CUDA."""
