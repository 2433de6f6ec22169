"""Frames and sound to a container, and its bytes to where they go."""
