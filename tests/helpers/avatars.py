"""A bundle that can prepare avatars, small videos and photos, made on the spot."""

import hashlib
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.paths import ROOT
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.storage.folder import new_folder

DATA = Path(os.environ.get("MUSETALK_EDGE_DATA", ROOT.parent / "shared" / "data"))
YUNET = "face_detection_yunet_2026may.onnx"

SPEC = ModelSpec(
    image_size=256,
    latent_size=32,
    latent_channels=4,
    scaling_factor=0.18215,
    mel_bins=80,
    audio_states=5,
    audio_width=384,
    audio_seconds=30,
    window_steps=10,
    window_before=4,
    encoder_id=hashlib.sha256(b"pooling encoder").hexdigest(),
)


def data_file(name: str) -> Path:
    """A file of the shared test data; skips the test where it is absent."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"needs {name} in ../shared/data or $MUSETALK_EDGE_DATA")
    return path


def make_bundle(path: Path) -> Path:
    """A bundle whose VAE encoder averages 8 x 8 pixels: channels R, G, B and their mean."""
    mix = np.vstack([np.eye(3), np.full((1, 3), 1 / 3)]).astype(np.float32).reshape(4, 3, 1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Conv", ["pooled", "mix"], ["latents"]),
        ],
        "vae_encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 256, 256])],
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["n", 4, 32, 32])],
        [numpy_helper.from_array(mix, "mix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with new_folder(path, BUNDLE_KIND, BUNDLE_SCHEMA) as (folder, manifest):
        onnx.save(model, folder / "vae_encoder.onnx")
        manifest.update(backend="onnxruntime", model=SPEC.to_json(), batch_ms={"1": 10.0}, live_context_seconds=2.0)
    return path


def write_video(
    path: Path,
    frames: Sequence[npt.NDArray[np.uint8]],
    times: Sequence[int] | None = None,
    rate: Fraction = Fraction(25),
    pix_fmt: str = "yuv420p",
) -> Path:
    """H.264 of RGB `frames`; `times` are pts in milliseconds, by default steady at `rate`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "5", "preset": "ultrafast", "bf": "0"})
        stream.pix_fmt = pix_fmt
        stream.height, stream.width = frames[0].shape[:2]
        stream.codec_context.time_base = Fraction(1, 1000) if times else 1 / rate
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = times[index] if times else index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def solid(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """One colour, RGB ``[height, width, 3]``."""
    return np.full((height, width, 3), colour, np.uint8)
