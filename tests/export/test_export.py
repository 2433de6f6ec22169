"""`export-student`: a checkpoint in, a model set out that computes what the checkpoint does."""

import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from onnx import TensorProto
from transformers import WhisperModel

import musetalk_export.export
from helpers.graphs import export, load_graphs, relative_error, run_graph
from helpers.processes import EXPORT
from musetalk_export.checkpoint.checkpoint import count
from musetalk_export.checkpoint.preset import PRESETS, Preset, init_checkpoint
from musetalk_export.cli import main
from musetalk_runtime.core.errors import AccuracyError
from musetalk_runtime.core.model import GRAPHS, MODELSET_KIND, MODELSET_SCHEMA, ModelSpec
from musetalk_runtime.storage.folder import read_folder

WEIGHTY = {"Conv", "MatMul", "Gemm"}
TINY = PRESETS["tiny"]
SMALL = Preset(
    {**TINY.unet, "sample_size": 8}, TINY.vae, {**TINY.whisper, "encoder_layers": 1}, TINY.folder, TINY.config
)  # faces of 64x64


@pytest.fixture(scope="module")
def musetalk_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `checkpoint`, in MuseTalk's tree."""
    path = tmp_path_factory.mktemp("checkpoint") / "musetalk"
    init_checkpoint("tiny", path)
    return path


@pytest.fixture(scope="module")
def golden(modelset: Path) -> dict[str, np.ndarray]:
    with np.load(modelset / "golden.npz") as arrays:
        return dict(arrays)


def test_the_manifest_describes_the_model(modelset: Path) -> None:
    manifest = read_folder(modelset, MODELSET_KIND, MODELSET_SCHEMA)
    spec = ModelSpec.from_json(manifest["model"], "manifest")
    files = {name for graph in GRAPHS for name in (f"{graph}.onnx", f"{graph}.onnx.data")}
    assert manifest["files"].keys() == {"golden.npz", *files}
    assert manifest["precision"] == "fp32"
    assert manifest["graphs"].keys() == set(GRAPHS)
    assert all(0 < graph["relative_error"] < 1e-4 for graph in manifest["graphs"].values())
    assert manifest["graphs"]["unet"]["parameters"] == 837_220
    assert (spec.image_size, spec.latent_size, spec.latent_channels) == (128, 16, 4)
    assert (spec.audio_seconds, spec.audio_states, spec.audio_width, spec.tokens) == (30, 3, 64, 30)


def test_another_seed_is_another_encoder(musetalk_tree: Path, tmp_path: Path) -> None:
    init_checkpoint("tiny", tmp_path / "other", seed=1)
    other = torch.load(tmp_path / "other" / "student" / "unet.pth", weights_only=True)
    first = torch.load(musetalk_tree / "student" / "unet.pth", weights_only=True)
    assert other.keys() == first.keys()
    assert not torch.equal(other["conv_in.weight"], first["conv_in.weight"])


def test_the_golden_tensors_are_8_frames_that_are_no_flat_or_saturated_pictures(golden: dict[str, np.ndarray]) -> None:
    assert golden["unet.latents"].shape == (8, 8, 16, 16)
    assert golden["audio_encoder.states"].shape == (1, 1500, 3, 64)
    for name in ("vae_decoder.images", "chain.images", "vae_encoder.images"):
        images = golden[name]
        assert images.shape == (8, 3, 128, 128)
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0.02
        assert np.mean((images == 0) | (images == 1)) < 0.1


def test_the_unet_is_diffusers_unet_at_step_0_with_musetalks_position_code(
    checkpoint: Path, modelset: Path, golden: dict[str, np.ndarray]
) -> None:
    latents, tokens = golden["unet.latents"][:3], golden["unet.tokens"][:3]
    code = np.zeros((30, 64), np.float32)
    for position in range(30):
        for column in range(0, 64, 2):
            angle = position / 10000 ** (column / 64)
            code[position, column : column + 2] = math.sin(angle), math.cos(angle)
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", local_files_only=True).eval()
    with torch.inference_mode():
        expected = unet(torch.from_numpy(latents), 0, torch.from_numpy(tokens + code)).sample.numpy()
    assert relative_error(run_graph(modelset, "unet", latents=latents, tokens=tokens), expected) < 1e-4


def test_the_vae_is_diffusers_vae_between_pictures_and_scaled_latents(
    checkpoint: Path, modelset: Path, golden: dict[str, np.ndarray]
) -> None:
    images = golden["vae_encoder.images"][:1]
    vae = AutoencoderKL.from_pretrained(checkpoint / "vae", local_files_only=True).eval()
    with torch.inference_mode():
        latents = vae.encode(torch.from_numpy(images * 2 - 1)).latent_dist.mean * 0.18215
        decoded = vae.decode(latents / 0.18215).sample
    expected = ((decoded + 1) / 2).clamp(0, 1).numpy()
    assert relative_error(run_graph(modelset, "vae_encoder", images=images), latents.numpy()) < 1e-4
    assert relative_error(run_graph(modelset, "vae_decoder", latents=latents.numpy()), expected) < 1e-4


def test_the_audio_encoder_gives_transformers_hidden_states_for_30_s(
    checkpoint: Path, modelset: Path, golden: dict[str, np.ndarray]
) -> None:
    mel = golden["audio_encoder.mel"][:, ::-1].copy()
    whisper = WhisperModel.from_pretrained(checkpoint / "whisper", local_files_only=True).eval()
    with torch.inference_mode():
        states = whisper.encoder(torch.from_numpy(mel), output_hidden_states=True).hidden_states
    expected = torch.stack(states, dim=2).numpy()
    assert expected.shape == (1, 1500, 3, 64)
    assert relative_error(run_graph(modelset, "audio_encoder", mel=mel), expected) < 1e-4


def test_the_audio_encoder_takes_any_even_length(modelset: Path, golden: dict[str, np.ndarray]) -> None:
    mel = golden["audio_encoder.mel"][:, :, :200]
    short = run_graph(modelset, "audio_encoder", mel=mel)
    assert short.shape == (1, 100, 3, 64)
    # The embedding sees 3 mel frames around each step: all but the last step is that of the whole.
    np.testing.assert_allclose(short[:, :99, 0], golden["audio_encoder.states"][:, :99, 0], atol=1e-5)
    assert run_graph(modelset, "audio_encoder", mel=np.concatenate([mel[:, :, :4]] * 3)).shape == (3, 2, 3, 64)


@pytest.mark.parametrize("graph", GRAPHS[:3])
def test_a_frame_is_the_same_in_any_batch(graph: str, modelset: Path, golden: dict[str, np.ndarray]) -> None:
    *inputs, output = [name for name in golden if name.startswith(f"{graph}.")]
    for batch in (1, 3):
        found = run_graph(modelset, graph, **{name.partition(".")[2]: golden[name][:batch] for name in inputs})
        assert relative_error(found, golden[output][:batch]) < 1e-4


def test_the_graphs_hold_standard_operators_of_opset_17_and_nothing_to_fold(modelset: Path) -> None:
    for name, model in load_graphs(modelset).items():
        operators = {node.op_type for node in model.graph.node}
        constants = {tensor.name for tensor in model.graph.initializer}
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert model.ir_version == 8  # TensorRT 8.6 knows none that is newer than its onnx
        assert {node.domain for node in model.graph.node} == {""}
        assert not operators & {"InstanceNormalization", "Constant", "Identity", "Sqrt", "Pow", "ConstantOfShape"}
        assert "LayerNormalization" in operators
        assert not [node.name for node in model.graph.node if set(node.input) <= constants]
        assert constants == {value for node in model.graph.node for value in node.input if value in constants}
        contents = [(tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in model.graph.initializer]
        assert len(contents) == len(set(contents))
        if name != "audio_encoder":
            assert not operators & {"Shape", "Gather", "Cast"}


def test_only_the_batch_and_the_length_of_the_audio_vary(modelset: Path) -> None:
    shapes = {
        f"{graph}.{value.name}": [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for graph, model in load_graphs(modelset).items()
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "unet.latents": ["N", 8, 16, 16],
        "unet.tokens": ["N", 30, 64],
        "unet.prediction": ["N", 4, 16, 16],
        "vae_decoder.latents": ["N", 4, 16, 16],
        "vae_decoder.images": ["N", 3, 128, 128],
        "vae_encoder.images": ["N", 3, 128, 128],
        "vae_encoder.latents": ["N", 4, 16, 16],
        "audio_encoder.mel": ["N", 80, "T"],
        "audio_encoder.states": ["N", "steps", 3, 64],
    }


def test_fp16_graphs_are_fp16_but_for_norms_and_softmaxes(half_modelset: Path) -> None:
    for model in load_graphs(half_modelset).values():
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
        casts = {node.output[0]: node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"}
        readers = {name: node.op_type for node in model.graph.node for name in node.input}
        islands = [node for node in model.graph.node if node.op_type in ("LayerNormalization", "Softmax")]
        assert set(ends) == {TensorProto.FLOAT16}
        for node in model.graph.node:
            if node.op_type in WEIGHTY:
                assert TensorProto.FLOAT not in {kinds.get(name) for name in node.input}
        for node in islands:
            assert casts[node.input[0]] == TensorProto.FLOAT
            assert {kinds[name] for name in node.input[1:]} <= {TensorProto.FLOAT}
            assert readers[node.output[0]] == "Cast"
        assert Counter(casts.values())[TensorProto.FLOAT16] == len(islands)
        assert len(casts) <= 2 * len(islands)


def test_fp16_errors_are_within_the_bound(half_modelset: Path) -> None:
    graphs = read_folder(half_modelset, MODELSET_KIND, MODELSET_SCHEMA)["graphs"]
    assert all(1e-5 < graph["relative_error"] < 2e-2 for graph in graphs.values())


def test_an_overflow_of_fp16_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init_checkpoint(SMALL, tmp_path / "loud")
    weights = torch.load(tmp_path / "loud" / "student" / "unet.pth", weights_only=True)
    weights["conv_in.weight"] *= 3e4
    torch.save(weights, tmp_path / "loud" / "student" / "unet.pth")
    words = ["unet overflows in FP16, whose largest number is 65504", "export it without --fp16"]
    assert main([str(tmp_path / "loud"), "-o", str(tmp_path / "set"), "--fp16"]) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert [word for word in words if word not in error] == []
    assert not (tmp_path / "set").exists()


def test_the_teachers_shape_with_a_mid_block_and_four_levels(tmp_path: Path) -> None:
    teacher = PRESETS["teacher"]
    unet = {**teacher.unet, "block_out_channels": [16, 16, 32, 32], "norm_num_groups": 8, "attention_head_dim": 2}
    unet["cross_attention_dim"], unet["sample_size"] = 64, 8
    init_checkpoint(Preset(unet, SMALL.vae, SMALL.whisper, teacher.folder, teacher.config), tmp_path / "teacher")
    manifest = read_folder(export(tmp_path / "teacher", tmp_path / "set"), MODELSET_KIND, MODELSET_SCHEMA)
    assert manifest["model"]["image_size"] == 64  # the smaller of the two configs
    assert manifest["unet_config"] == {"block_out_channels": [16, 16, 32, 32], "layers_per_block": 2}


@pytest.mark.parametrize(("preset", "parameters"), [("teacher", 849_947_844), ("student", 318_235_524)])
def test_the_presets_have_the_real_sizes(preset: str, parameters: int) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(PRESETS[preset].unet)
        vae = AutoencoderKL.from_config(PRESETS[preset].vae)
    assert count(unet) == parameters
    assert count(vae.decoder, vae.post_quant_conv) == 49_490_199


def test_a_graph_that_computes_something_else_fails_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    init_checkpoint(SMALL, tmp_path / "small")
    write_graph = musetalk_export.export.write_graph

    def write_wrong_graph(module, inputs, outputs, file, *, half):
        if file.name == "vae_encoder.onnx":
            module.scaling_factor *= 1.01
        write_graph(module, inputs, outputs, file, half=half)

    monkeypatch.setattr(musetalk_export.export, "write_graph", write_wrong_graph)
    assert main([str(tmp_path / "small"), "-o", str(tmp_path / "set")]) == AccuracyError.exit_status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "vae_encoder computes something else" in captured.err.splitlines()[-1]
    assert "latents has a relative error of 1.00e-02" in captured.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_failed_export_leaves_the_older_model_set_alone(
    checkpoint: Path, modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(modelset, tmp_path / "set")
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    (broken / "whisper" / "config.json").unlink()
    assert main([str(broken), "-o", str(tmp_path / "set")]) == 2
    assert "config.json" in capsys.readouterr().err
    read_folder(tmp_path / "set", MODELSET_KIND, MODELSET_SCHEMA)


def test_the_command_writes_a_table_to_stdout_and_its_progress_to_stderr(
    musetalk_tree: Path, modelset: Path, tmp_path: Path
) -> None:
    student = shutil.copytree(musetalk_tree / "student", tmp_path / "trained")
    shutil.copytree(musetalk_tree, tmp_path / "base", ignore=shutil.ignore_patterns("student"))
    done = subprocess.run(
        [*EXPORT, "base", "--unet", str(student / "unet.pth"), "-o", "set", "--fp16"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["graph", "output", "class", "parameters", "max", "error", "relative", "bound"]
    assert [row.split()[0] for row in rows] == ["unet", "vae_decoder", "chain", "vae_encoder", "audio_encoder"]
    assert all(line.startswith("export-student: ") for line in done.stderr.splitlines())
    assert "writing unet.onnx" in done.stderr
    onnx.checker.check_model(tmp_path / "set" / "unet.onnx")
    half, full = (read_folder(path, MODELSET_KIND, MODELSET_SCHEMA) for path in (tmp_path / "set", modelset))
    assert half["precision"] == "fp16"
    assert half["model"] == full["model"]  # both trees of the same weights have the same encoder
