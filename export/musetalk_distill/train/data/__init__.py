"""What a step learns from: batches of frames out of shards."""
