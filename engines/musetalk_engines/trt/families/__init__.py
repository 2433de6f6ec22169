"""What differs between TensorRT's families: weakly and strongly typed networks."""
