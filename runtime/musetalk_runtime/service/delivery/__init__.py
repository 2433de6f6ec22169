"""A stream for its viewers: fragments of MP4, and HLS."""
