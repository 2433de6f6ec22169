"""CUDA: the device, memory, streams, our kernels, and frames that stay on the GPU."""
