"""Distillation on a workstation: a small student model learns from a large teacher. Needs PyTorch."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
