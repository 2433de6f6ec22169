"""What the tests of the exporter share: folders and graphs, looked into without the package's own code."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from musetalk_export.cli import main
from musetalk_runtime.core.model import GRAPHS


def export(checkpoint: Path, output: Path, *options: str) -> Path:
    """The model set that ``export-student CHECKPOINT -o OUTPUT`` writes."""
    assert main([str(checkpoint), "-o", str(output), *options]) == 0
    return output


def run_graph(model_set: Path, graph: str, **inputs: NDArray) -> NDArray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # others would spin
    session = onnxruntime.InferenceSession(model_set / f"{graph}.onnx", options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def load_graphs(model_set: Path) -> dict[str, onnx.ModelProto]:
    return {graph: onnx.load(model_set / f"{graph}.onnx") for graph in GRAPHS}


def relative_error(found: NDArray, expected: NDArray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def assert_refused(capsys, arguments: list[str], output: Path, *words: str) -> None:
    """``export-student ARGUMENTS -o OUTPUT`` exits with 2 and one line on stderr, and leaves nothing beside OUTPUT."""
    before = sorted(output.parent.iterdir())
    status = main([*arguments, "-o", str(output)])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if "error:" in line]
    assert status == 2
    assert captured.out == ""
    assert len(errors) == 1
    assert captured.err.splitlines()[-1] == errors[0]
    assert errors[0].startswith("export-student: error: ")
    assert [word for word in words if word not in errors[0]] == []
    assert sorted(output.parent.iterdir()) == before
