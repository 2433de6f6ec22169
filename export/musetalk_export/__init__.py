"""The export of checkpoints to model sets: the ONNX files, golden tensors and manifest that `build-engines` reads."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
