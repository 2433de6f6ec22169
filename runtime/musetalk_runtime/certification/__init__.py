"""Certification: plans held to the golden tensors, and measured, on the device that runs them."""
