"""``build-engines --precision int8``: what is quantised, how far off it may be, and what it takes."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from helpers.media import write_wav
from musetalk_engines.cli import main
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.model import MODELSET_KIND, MODELSET_SCHEMA
from musetalk_runtime.demo import SPEECH
from musetalk_runtime.session import Session
from musetalk_runtime.storage.folder import MANIFEST, new_folder


@pytest.fixture(scope="module")
def calm(modelset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`modelset` with a decoder whose pictures are close to grey, so that what is random in them weighs little."""
    folder = tmp_path_factory.mktemp("calm") / "set"
    with new_folder(folder, MODELSET_KIND, MODELSET_SCHEMA) as (work, manifest):
        for file in modelset.iterdir():
            if file.name not in (MANIFEST, "vae_decoder.onnx.data", "golden.npz"):
                shutil.copy(file, work)
        manifest.update(json.loads((modelset / MANIFEST).read_text()))
        model = onnx.load(modelset / "vae_decoder.onnx")
        for tensor in model.graph.initializer:
            if tensor.name == "decoder.conv_out.weight":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(0.1), tensor.name))
        onnx.save_model(model, work / "vae_decoder.onnx", save_as_external_data=True, location="vae_decoder.onnx.data")
        golden = dict(np.load(modelset / "golden.npz"))
        decoder = OnnxSession(work / "vae_decoder.onnx")
        golden["chain.images"] = decoder.run("images", latents=golden["unet.prediction"])
        golden["vae_decoder.images"] = decoder.run("images", latents=golden["vae_decoder.latents"])
        np.savez(work / "golden.npz", **golden)
    return folder


def build(models: Path, output: Path, *options: str) -> int:
    return main([str(models), "-o", str(output), "--backend", "onnxruntime", "--batch-sizes", "1", *options])


def int8(avatar: Path, speech: Path = SPEECH) -> tuple[str, ...]:
    return "--precision", "int8", "--calibration", str(avatar), str(speech)


def test_convolutions_are_int8_and_faces_hardly_differ(
    calm: Path, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(calm, tmp_path / "int8", *int8(avatar)) == 0
    assert "faces, int8" in capsys.readouterr().out
    with Bundle.open(tmp_path / "int8") as bundle, Avatar.open(avatar) as opened:
        assert bundle.manifest["precision"] == "int8"
        row = bundle.manifest["engines"]["generator"]["certified"][-1]
        assert 0 < row["relative_error"] <= row["bound"] < 0.03
        with Session(bundle, opened, SPEECH, 25) as session:
            assert next(iter(session.frames())).nv12.any()
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8/generator.onnx").graph.node]
    assert kinds.count("QLinearConv") > 20
    assert not {"Conv", "FusedConv"} & set(kinds)
    assert kinds.count("MatMul") > 10
    assert sorted(file.name for file in (tmp_path / "int8").iterdir()) == sorted(
        [
            MANIFEST,
            *(f"{name}.onnx{end}" for name in ("generator", "vae_encoder", "audio_encoder") for end in ("", ".data")),
        ]
    )


def test_faces_that_differ_too_much_are_refused(
    modelset: Path, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(modelset, tmp_path / "int8", *int8(avatar)) == 3
    assert "generator computes something else than the one in FP32: faces, int8" in capsys.readouterr().err
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int8"), "--precision int8 and --calibration AVATAR SPEECH go together"),
        (("--calibration", "a", "b"), "--precision int8 and --calibration AVATAR SPEECH go together"),
        (("--backend", "tensorrt", *int8(Path("a"))), "--precision int8 is for --backend onnxruntime, on a CPU"),
        (int8(Path("no-avatar")), "no-avatar"),
    ],
)
def test_options_that_do_not_fit(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert build(modelset, tmp_path / "int8", *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "int8").exists()


def test_a_calibration_takes_enough_speech(
    modelset: Path, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silence = tmp_path / "silence.wav"
    write_wav(silence, np.zeros(32_000, np.int16))
    assert build(modelset, tmp_path / "int8", *int8(avatar, silence)) == 2
    assert f"{avatar} speaks in 0 frames of {silence}" in capsys.readouterr().err
