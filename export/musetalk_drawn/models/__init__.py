"""The training of the demo's audio encoder and VAE, from scratch, on drawn clips."""
