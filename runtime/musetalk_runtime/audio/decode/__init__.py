"""Decoding: media files, Opus and PCM to samples in their place in time."""
