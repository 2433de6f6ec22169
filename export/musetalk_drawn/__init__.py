"""Drawn people who speak, with the truth of every mouth, and the demo's models trained on them."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
