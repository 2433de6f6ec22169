"""Drawn people who speak: training clips whose mouths are known exactly, and the demo's models and media."""

import musetalk_runtime  # noqa: F401  turns the telemetry of dependencies off
