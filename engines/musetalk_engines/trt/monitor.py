"""How far TensorRT's builder has come, from version 10 on."""

import time
from collections.abc import Callable

import tensorrt as trt

INTERVAL = 5.0  # seconds between two lines


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Reports the builder's outermost phase, one line at most every INTERVAL. Called from the builder's threads."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress
        self._steps: dict[str, int] = {}
        self._last = time.monotonic()

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        if not parent_phase:
            self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        now = time.monotonic()
        if phase_name in self._steps and now - self._last >= INTERVAL:
            self._last = now
            self._progress(f"{phase_name}: step {step + 1} of {self._steps[phase_name]}")
        return True  # go on

    def phase_finish(self, phase_name: str) -> None:
        self._steps.pop(phase_name, None)
