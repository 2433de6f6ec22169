"""``build-engines`` for the CPU: what it writes, what it refuses, and that the engines compute the model."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from helpers.processes import BUILD
from musetalk_engines.build import build_bundle
from musetalk_engines.cli import main
from musetalk_engines.modelset import ModelSet
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import AccuracyError, InvalidFolder
from musetalk_runtime.core.model import MODELSET_KIND, MODELSET_SCHEMA
from musetalk_runtime.storage.folder import MANIFEST, new_folder


def test_the_bundle_declares_what_was_certified_and_measured(modelset: Path, tmp_path: Path) -> None:
    report = build_bundle(modelset, tmp_path / "bundle", (1, 2, 4), None, print)
    with Bundle.open(tmp_path / "bundle") as opened:
        assert opened.batch_sizes == [1, 2, 4]
        assert opened.batch_ms == report.batch_ms
        assert all(ms > 0 for ms in opened.batch_ms.values())
        assert 2.0 <= opened.live_context <= 30.0
        assert opened.face_model is None
        engines = opened.manifest["engines"]
    outputs = {(row["graph"], row["output"]): row for engine in engines.values() for row in engine["certified"]}
    assert outputs.keys() == {
        ("generator", "prediction"),
        ("generator", "faces"),
        ("vae_encoder", "latents"),
        ("audio_encoder", "states"),
    }
    assert all(0 < row["relative_error"] <= row["bound"] for row in outputs.values())


def test_the_engines_compute_the_golden_tensors_whatever_the_batch(bundle: Path, modelset: Path) -> None:
    golden = ModelSet.open(modelset).golden()
    generator = OnnxSession(bundle / "generator.onnx")
    images = golden["chain.images"].transpose(0, 2, 3, 1) * 255
    for n in (1, 3, 8):
        inputs = {"latents": golden["unet.latents"][:n], "tokens": golden["unet.tokens"][:n]}
        faces = generator.run("faces", **inputs)
        assert faces.dtype == np.uint8
        assert np.abs(faces - images[:n]).max() <= 0.51
    with Bundle.open(bundle) as opened:
        states = opened.engines.encode_audio(golden["audio_encoder.mel"][0])
        np.testing.assert_allclose(states, golden["audio_encoder.states"][0], atol=1e-4)
        latents = opened.engines.encode_images(golden["vae_encoder.images"])
        np.testing.assert_allclose(latents, golden["vae_encoder.latents"], atol=1e-3)


def test_a_face_detector_is_packed(modelset: Path, tmp_path: Path, data: Path) -> None:
    detector = data / "face_detection_yunet_2026may.onnx"
    build_bundle(modelset, tmp_path / "bundle", (1,), detector, print)
    with Bundle.open(tmp_path / "bundle") as opened:
        assert opened.face_model
        assert opened.face_model.read_bytes() == detector.read_bytes()


def test_a_graph_that_computes_something_else_is_refused(modelset: Path, tmp_path: Path) -> None:
    perturbed = tmp_path / "perturbed"
    with new_folder(perturbed, MODELSET_KIND, MODELSET_SCHEMA) as (work, manifest):
        for file in modelset.iterdir():
            if file.name != MANIFEST:
                shutil.copy(file, work)
        manifest.update(json.loads((modelset / MANIFEST).read_text()))
        model = onnx.load(work / "unet.onnx")
        weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
        (work / "unet.onnx.data").unlink()
        onnx.save_model(model, work / "unet.onnx", save_as_external_data=True, location="unet.onnx.data")
    with pytest.raises(
        AccuracyError, match=r"generator computes something else than the model set: .*nothing was written"
    ):
        build_bundle(perturbed, tmp_path / "bundle", (1,), None, print)
    assert [file.name for file in tmp_path.iterdir()] == ["perturbed"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet.onnx", "unet.onnx: its content does not match the hash in the manifest"),
        ("golden.npz", "golden.npz: its content does not match"),
    ],
)
def test_a_model_set_that_does_not_match_its_manifest(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    shutil.copytree(modelset, tmp_path / "set")
    content = bytearray((modelset / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "set" / name).write_bytes(content)
    _assert_refused(tmp_path, capsys, message)


def test_a_model_set_without_a_graph(modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(modelset, tmp_path / "set")
    manifest = json.loads((modelset / MANIFEST).read_text())
    del manifest["files"]["unet.onnx"]
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(manifest))
    _assert_refused(tmp_path, capsys, "does not list unet.onnx")


def test_a_bundle_is_no_model_set(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(bundle, tmp_path / "set")
    _assert_refused(tmp_path, capsys, "expected a model set, found 'bundle'")


def test_an_fp16_model_set_is_for_a_gpu(modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(modelset, tmp_path / "set")
    text = (modelset / MANIFEST).read_text().replace('"precision": "fp32"', '"precision": "fp16"')
    (tmp_path / "set" / MANIFEST).write_text(text)
    _assert_refused(tmp_path, capsys, "export it without --fp16")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_ms", {}, "expected sizes from 1 to 64"),
        ("batch_ms", {"0": 1.0}, "expected sizes from 1 to 64"),
        ("batch_ms", {"1000000": 1.0}, "expected sizes from 1 to 64"),
        ("batch_ms", {"1": 0}, "times above 0"),
        ("batch_ms", {"1": "quick"}, "must map batch sizes to milliseconds"),
        ("batch_ms", [1], "must map batch sizes to milliseconds"),
        ("live_context_seconds", 1e9, "expected 0.2 to 30"),
        ("live_context_seconds", None, "expected 0.2 to 30"),
        ("backend", "abacus", "backend 'abacus' is unknown"),
        ("model", {"image_size": 256}, "'model' must hold"),
    ],
)
def test_a_bundle_that_declares_nonsense(bundle: Path, tmp_path: Path, key: str, value: object, message: str) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / MANIFEST).read_text())
    (tmp_path / "bundle" / MANIFEST).write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(InvalidFolder, match=message):
        Bundle.open(tmp_path / "bundle")


def test_the_command_prints_a_table_and_reports_progress_on_stderr(modelset: Path, tmp_path: Path) -> None:
    arguments = [str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime", "--batch-sizes", "2,1"]
    done = subprocess.run([*BUILD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["graph", "output", "max", "error", "relative", "bound"]
    assert [row.split()[0] for row in rows[:4]] == ["generator", "generator", "vae_encoder", "audio_encoder"]
    assert rows[4].startswith("batch 1: ")
    assert all(line.startswith("build-engines: ") for line in done.stderr.splitlines())


@pytest.mark.parametrize("sizes", ["", "0", "1,x", "65", "-1"])
def test_batch_sizes_out_of_range(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sizes: str
) -> None:
    arguments = [str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime", f"--batch-sizes={sizes}"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "expected numbers from 1 to 64" in capsys.readouterr().err


def _assert_refused(folder: Path, capsys: pytest.CaptureFixture[str], message: str) -> None:
    assert main([str(folder / "set"), "-o", str(folder / "bundle"), "--backend", "onnxruntime"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err.splitlines()[-1]
    assert [file.name for file in folder.iterdir()] == ["set"]
