"""A device: its service as a process, its bundles and its avatars."""
