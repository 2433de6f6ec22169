"""Checkpoint to model set: the ONNX files, golden tensors and manifest that `build-engines` reads."""
