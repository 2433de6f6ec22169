"""TensorRT: plans, and the chain of UNet, decoder and composition in CUDA graphs."""
