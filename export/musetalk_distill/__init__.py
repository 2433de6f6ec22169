"""Workstation: teach a small student what the teacher shows. Needs PyTorch."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
