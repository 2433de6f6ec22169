"""ONNX Runtime's execution providers, and sessions opened on one of them."""

import io
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from musetalk_runtime.core.errors import InvalidFolder, MachineError, one_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

# TF32 would keep 10 bits of what is multiplied, of engines that are FP32. The default search for the fastest
# convolutions is exhaustive, and would stop a stream at every batch size that it has not met.
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
SILENT, WARNINGS = 4, 2  # ONNX Runtime's severities, the latter its default


def open_session(path: Path, options: Any, provider: str) -> Any:
    """An ``InferenceSession`` on `provider`, CPU or CUDA.

    Raises MachineError where that provider cannot be used: ONNX Runtime itself would go on with the CPU and only log
    it. Raises InvalidFolder for a graph that it cannot load.
    """
    ort = import_onnxruntime()
    if provider not in ort.get_available_providers():
        raise MachineError(f"onnxruntime {ort.__version__} has no {provider}: pip install onnxruntime-gpu in its place")
    if provider == CUDA:
        return _open_on_gpu(ort, path, options)
    try:
        return ort.InferenceSession(path, options, providers=[CPU], enable_fallback=0)  # it would print on stdout
    except Exception as error:  # its exceptions share no base but Exception
        raise InvalidFolder(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error


def import_onnxruntime() -> Any:
    """The module; raises MachineError where it is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MachineError("onnxruntime is not installed: pip install 'musetalk-edge[cpu]'") from None
    except ImportError as error:
        raise MachineError(f"onnxruntime cannot be loaded: {one_line(error)}") from error
    return onnxruntime


def _open_on_gpu(ort: Any, path: Path, options: Any) -> Any:
    reason = preload()
    providers = [(CUDA, CUDA_OPTIONS)]
    ort.set_default_logger_severity(SILENT)  # it would log to stderr what is raised below
    try:
        session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
        works = session.get_providers()[0] == CUDA
    except Exception as error:
        works, reason = False, str(error).splitlines()[0]
    finally:
        ort.set_default_logger_severity(WARNINGS)
    if not works:
        raise MachineError(
            f"onnxruntime {ort.__version__} cannot use {CUDA} ({reason or 'it does not say why'}): "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session


@cache
def preload() -> str:
    """Load CUDA and cuDNN from where pip puts them; the first line of what that prints on stdout."""
    ort = import_onnxruntime()
    said = io.StringIO()
    if hasattr(ort, "preload_dlls"):  # 1.21 and later
        with redirect_stdout(said):
            ort.preload_dlls()
    return next(iter(said.getvalue().splitlines()), "")
