"""The demo's own encoders, trained from nothing on drawn clips."""
