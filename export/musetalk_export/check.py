"""The accuracy check: the graphs in ONNX Runtime against the golden tensors from PyTorch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from musetalk_export.golden import Golden
from musetalk_runtime.core.accuracy import Difference, difference, require
from musetalk_runtime.core.errors import AccuracyError
from musetalk_runtime.core.model import GRAPHS

# Largest ||found - expected|| / ||expected||. FP32 graphs differ from PyTorch by the order of their sums alone (some
# 1e-6 in practice, more through deep attention); a wrong graph is off by 1e-2 or far more. FP16 rounds each activation
# by up to 5e-4, and tens of layers add up to some 1e-3 to 1e-2; beyond 2e-2 the difference shows in the picture.
MAX_RELATIVE_ERROR = {"fp32": 1e-3, "fp16": 2e-2}


def check_graphs(folder: Path, golden: Golden, precision: str) -> list[Difference]:
    """One row for each graph in `folder`, and one for the chain UNet -> decoder.

    Raises AccuracyError, naming the worst row, if an output is further from the golden one than
    ``MAX_RELATIVE_ERROR`` allows, or the graph whose FP16 overflows.
    """
    bound = MAX_RELATIVE_ERROR[precision]
    rows = [
        difference(graph, output, found, golden[f"{graph}.{output}"], bound)
        for graph, output, found in _outputs(folder, golden)
    ]
    if precision == "fp16":
        _check_overflow(rows)
    require(rows, "the checkpoint")
    return rows


def _check_overflow(rows: list[Difference]) -> None:
    for row in rows:
        if not np.isfinite(row.max_error):
            raise AccuracyError(
                f"{row.graph} overflows in FP16, whose largest number is 65504: its {row.output} hold NaN or infinity: "
                "export it without --fp16: nothing was written"
            )


def _outputs(folder: Path, golden: Golden) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Graph, output and what ONNX Runtime computes for it; one session at a time, for they are large."""
    prediction: NDArray[np.float32] | None = None
    for graph in GRAPHS:
        session = open_session(folder / f"{graph}.onnx")
        inputs = {value.name: golden[f"{graph}.{value.name}"] for value in session.get_inputs()}
        output = session.get_outputs()[0].name
        found = run_session(session, inputs)
        yield graph, output, found
        if graph == "unet":
            prediction = found
        if graph == "vae_decoder" and prediction is not None:
            yield "chain", output, run_session(session, {session.get_inputs()[0].name: prediction})


def open_session(file: Path) -> onnxruntime.InferenceSession:
    """`file` on the CPU, with as many threads as there are cores, which sleep while they wait."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings are about its own optimizer
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The first output for `inputs`, cast to the types the graph has; FP32 in and out."""
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    feeds = {value.name: inputs[value.name].astype(kinds[value.type]) for value in session.get_inputs()}
    found: NDArray[np.float32] = session.run(None, feeds)[0].astype(np.float32)
    return found
