"""A video or photo to an avatar pack."""
