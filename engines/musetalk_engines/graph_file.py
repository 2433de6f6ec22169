"""An ONNX graph on disk."""

from pathlib import Path

import onnx
from onnx import ModelProto


def save_graph(model: ModelProto, file: Path) -> None:
    """Write `model` to `file`, its weights to ``<file>.data``."""
    weights = file.with_name(f"{file.name}.data")
    weights.unlink(missing_ok=True)  # onnx would append to it
    onnx.save_model(model, file, save_as_external_data=True, location=weights.name)
