"""The delivery of a stream to its viewers: MP4 fragments, HLS, and server-sent events."""
