"""The chain on an NVIDIA GPU: TensorRT engines, CUDA streams and graphs, composition into NV12."""
