"""The TensorRT backend: one plan a graph, certified on the GPU it was built on."""
