"""Training shards: clips as tensors in files."""
