"""One ONNX graph on ONNX Runtime."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from musetalk_runtime.backends.ort.provider import CPU, import_onnxruntime, open_session
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.core.errors import MachineError


class OnnxSession:
    """A graph ready to run, on all cores this process may use or on the GPU. Raises as `open_session` says.

    Worker threads do not spin between runs: sessions used in turn would spin against each other and against the
    video encoder.
    """

    def __init__(self, path: Path, provider: str = CPU) -> None:
        options = import_onnxruntime().SessionOptions()
        options.intra_op_num_threads = math.ceil(available_cores())
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._path = path
        self._session = open_session(path, options, provider)

    def run(self, output: str, **inputs: npt.NDArray[Any]) -> Any:
        """The array of one named output."""
        return self.run_all([output], **inputs)[0]

    def run_all(self, outputs: Sequence[str], **inputs: npt.NDArray[Any]) -> list[Any]:
        """The arrays of several named outputs, of one run; raises MachineError where it fails."""
        try:
            arrays: list[Any] = self._session.run(list(outputs), inputs)
        except Exception as error:  # its exceptions share no base but Exception
            reason = f"{self._path}: ONNX Runtime cannot run it: {str(error).splitlines()[0][:300]}"
            raise MachineError(f"{reason}: is it of this bundle, and is there memory?") from error
        return arrays
