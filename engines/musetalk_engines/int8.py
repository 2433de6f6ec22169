"""INT8 for the generator's convolutions, by ONNX Runtime's static quantisation."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from musetalk_engines.calibration import Frames
from musetalk_runtime.avatar.box import hidden_rows
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.core.accuracy import Difference, difference
from musetalk_runtime.core.arrays import Bytes

MIN_PSNR_DB = 40.0  # of the face, against FP32
BATCH = 4


def quantise(source: Path, target: Path, frames: Frames) -> None:
    """Write the graph `source` to `target` with convolutions in INT8, for the ranges that values have in `frames`.

    Weights have a scale for each channel, and 7 bits: with 8 the products overflow on processors without VNNI. The rest
    stays FP32: matrix products lose accuracy and save no time. Another file is left beside `source`.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    prepared = source.with_name("prepared.onnx")  # beside its weights
    onnx.shape_inference.infer_shapes_path(source, prepared)  # ONNX Runtime 1.23's own fails with a newer onnx
    with _quiet():
        nodes = onnx.load(prepared, load_external_data=False).graph.node
        quantize_static(
            prepared,
            target,
            _Reader(frames),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Softmax"],  # ONNX Runtime before 1.20 wants the range of each Softmax
            nodes_to_quantize=[node.name for node in nodes if node.op_type == "Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=True,
        )


def compare(generator: OnnxSession, exact: OnnxSession, frames: Frames) -> Difference:
    """What the faces of `frames` differ by, in the rows that can be shown; the bound is that of MIN_PSNR_DB."""
    found, expected = _faces(generator, frames), _faces(exact, frames)
    level = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    return difference("generator", "faces, int8", found, expected, 255 * 10 ** (-MIN_PSNR_DB / 20) / max(level, 1.0))


def _faces(generator: OnnxSession, frames: Frames) -> Bytes:
    batches = [frames[k : k + BATCH] for k in range(0, len(frames), BATCH)]
    faces = np.concatenate([generator.run("faces", latents=one.latents, tokens=one.tokens) for one in batches])
    return faces[:, hidden_rows(faces.shape[1]) :]


class _Reader:
    """Gives the quantiser one frame after the other. See ``onnxruntime.quantization.CalibrationDataReader``."""

    def __init__(self, frames: Frames) -> None:
        self._frames, self._next = frames, 0

    def get_next(self) -> dict[str, Any] | None:
        one = self._frames[self._next : self._next + 1]
        self._next += 1
        return {"latents": one.latents, "tokens": one.tokens} if len(one) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, which goes to the root logger."""
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
