"""Model set to bundle: the engines of one device, certified against the golden tensors."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
