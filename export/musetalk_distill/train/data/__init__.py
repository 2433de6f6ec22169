"""Training batches: the frames of the shards, sampled and brought to the device."""
