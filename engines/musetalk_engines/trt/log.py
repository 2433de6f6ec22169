"""What TensorRT says."""

from collections import deque
from collections.abc import Callable

import tensorrt as trt

KEPT = 20  # messages


class Log(trt.ILogger):  # type: ignore[misc]
    """Passes errors on, with `verbose` warnings and information too; keeps the last ones for an error's text."""

    def __init__(self, progress: Callable[[str], None], *, verbose: bool) -> None:
        trt.ILogger.__init__(self)
        self._progress, self._verbose = progress, verbose
        self._errors: deque[str] = deque(maxlen=KEPT)

    def log(self, severity: object, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        serious = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
        if serious:
            self._errors.append(msg)
        if serious or (self._verbose and severity in (trt.ILogger.WARNING, trt.ILogger.INFO)):
            self._progress(f"TensorRT: {msg}")

    @property
    def last_error(self) -> str:
        return self._errors[-1] if self._errors else "it gave no reason"
