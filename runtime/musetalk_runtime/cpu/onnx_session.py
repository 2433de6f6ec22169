"""One ONNX graph on ONNX Runtime's CPU provider."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from musetalk_runtime.errors import InvalidFolder, MachineError


class OnnxSession:
    """A graph ready to run on all cores this process may use.

    Worker threads do not spin between runs: sessions used in turn would spin against each other and against the
    video encoder.
    """

    def __init__(self, path: Path) -> None:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but Exception
            raise InvalidFolder(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error

    def run(self, output: str, **inputs: npt.NDArray[Any]) -> Any:
        """The array of one named output."""
        return self.run_all([output], **inputs)[0]

    def run_all(self, outputs: Sequence[str], **inputs: npt.NDArray[Any]) -> list[Any]:
        """The arrays of several named outputs, of one run."""
        arrays: list[Any] = self._session.run(list(outputs), inputs)
        return arrays


def import_onnxruntime() -> Any:
    """The module; raises MachineError where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise MachineError("onnxruntime is not installed: pip install 'musetalk-edge[cpu]'") from None
    return onnxruntime
