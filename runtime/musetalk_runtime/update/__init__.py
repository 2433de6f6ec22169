"""Versions of bundles and avatars on a device, and starts that prove them."""
