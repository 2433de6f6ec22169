"""A small decoder in the place of the VAE's: exported, refused where it does not fit, and streamed with."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from helpers.graphs import assert_refused, export, load_graphs, relative_error, run_graph
from musetalk_export.checkpoint.preset import PRESETS, Preset, init_checkpoint, random_decoder
from musetalk_export.cli import main
from musetalk_export.graphs.vae import decoder_graph
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.avatar.box import hidden_rows
from musetalk_runtime.core.model import GRAPHS, MODELSET_KIND, MODELSET_SCHEMA
from musetalk_runtime.storage.folder import read_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = {
    "decoder_block_out_channels": [8] * 4,
    "num_decoder_blocks": [2, 1, 1, 1],
    "encoder_block_out_channels": [1],
    "num_encoder_blocks": [1],
    "scaling_factor": 2.0,  # its own: it takes latents divided by this
}
TINY = PRESETS["tiny"]
PRESET = Preset(
    {**TINY.unet, "sample_size": 8},
    TINY.vae,
    {**TINY.whisper, "encoder_layers": 1},
    TINY.folder,
    TINY.config,
    SMALL,
)  # faces of 64x64


def manifest(model_set: Path) -> dict[str, Any]:
    return read_folder(model_set, MODELSET_KIND, MODELSET_SCHEMA)


def save_decoder(folder: Path, **config: Any) -> Path:
    random_decoder({**SMALL, **config}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small_decoder") / "musetalk"
    init_checkpoint(PRESET, path)
    return path


@pytest.fixture(scope="session")
def model_set(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tree, tmp_path_factory.mktemp("small_decoder") / "small.modelset")


@pytest.fixture(scope="session")
def decoder(tree: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Diffusers' own decoder, from latents as the model set has them to images in [0, 1]; black where never shown."""
    tiny = AutoencoderTiny.from_pretrained(tree / "decoder", local_files_only=True).eval()

    def decode(latents: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = (tiny.decode(torch.from_numpy(latents) / 2.0).sample + 1) / 2
            images[:, :, : hidden_rows(images.shape[2])] = 0
        return images.clamp(0, 1).numpy()

    return decode


@pytest.mark.parametrize(
    ("preset", "width", "parameters"), [("student-taesd", 64, 1_222_531), ("student-half-taesd", 32, 307_139)]
)
def test_presets_with_a_decoder_of_taesd(preset: str, width: int, parameters: int) -> None:
    assert PRESETS[preset].unet == PRESETS["student"].unet
    tiny = random_decoder(PRESETS[preset].decoder)
    assert tiny.config.decoder_block_out_channels == [width] * 4
    assert sum(parameter.numel() for parameter in tiny.decoder.parameters()) == parameters


def test_the_graph_is_diffusers_small_decoder(model_set: Path, decoder: Callable[[np.ndarray], np.ndarray]) -> None:
    latents = np.random.default_rng(0).normal(0, 1.5, (3, 4, 8, 8)).astype(np.float32)
    expected = decoder(latents)
    assert expected.shape == (3, 3, 64, 64)
    shown = expected[:, :, hidden_rows(64) :]
    assert shown.std() > 0.05
    assert np.mean((shown == 0) | (shown == 1)) < 0.1
    assert relative_error(run_graph(model_set, "vae_decoder", latents=latents), expected) < 1e-5


@pytest.mark.parametrize(("size", "blocks"), [(32, [3, 3, 3, 1]), (16, [1, 2, 3]), (24, [1, 1, 1, 1, 1])])
def test_rows_that_are_shown_are_exact_for_any_shape(size: int, blocks: list[int]) -> None:
    tiny = random_decoder(
        {**SMALL, "decoder_block_out_channels": [8] * len(blocks), "num_decoder_blocks": blocks}
    ).eval()
    image = size * 2 ** (len(blocks) - 1)
    graph, hidden = decoder_graph(tiny, image), hidden_rows(image)
    latents = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = ((tiny.decode(latents / 2.0).sample + 1) / 2).clamp(0, 1)
        found = graph(latents)
    assert found.shape == expected.shape
    assert sum(graph.cuts[:-1]) > 0  # less is computed
    torch.testing.assert_close(found[:, :, hidden:], expected[:, :, hidden:], rtol=0, atol=1e-6)
    assert not found[:, :, :hidden].any()


def test_the_golden_chain_is_the_unet_and_the_small_decoder(
    model_set: Path, decoder: Callable[[np.ndarray], np.ndarray]
) -> None:
    with np.load(model_set / "golden.npz") as golden:
        assert relative_error(golden["vae_decoder.images"], decoder(golden["vae_decoder.latents"])) < 1e-5
        assert relative_error(golden["chain.images"], decoder(golden["unet.prediction"])) < 1e-5
        prediction = run_graph(model_set, "unet", latents=golden["unet.latents"], tokens=golden["unet.tokens"])
        assert relative_error(run_graph(model_set, "vae_decoder", latents=prediction), golden["chain.images"]) < 1e-4


def test_the_manifest_names_the_models_and_counts_what_is_exported(model_set: Path, tree: Path) -> None:
    graphs = manifest(model_set)["graphs"]
    weights = load_file(tree / "decoder" / WEIGHTS)
    decoders = sum(tensor.numel() for name, tensor in weights.items() if name.startswith("decoder."))
    assert {graph: about["class"] for graph, about in graphs.items()} == {
        "unet": "UNet2DConditionModel",
        "vae_decoder": "AutoencoderTiny",
        "vae_encoder": "AutoencoderKL",
        "audio_encoder": "WhisperEncoder",
    }
    assert graphs["vae_decoder"]["parameters"] == decoders
    assert graphs["vae_decoder"]["relative_error"] < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graph_holds_plain_operators_in_both_precisions(
    precision: str, tree: Path, model_set: Path, tmp_path: Path
) -> None:
    exported = model_set if precision == "fp32" else export(tree, tmp_path / "set", "--fp16")
    model = load_graphs(exported)["vae_decoder"]
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert {node.op_type for node in model.graph.node} == {
        "Conv",
        "Relu",
        "Add",
        "Mul",
        "Tanh",
        "Resize",
        "Clip",
        "Slice",
        "Pad",
    }
    assert shapes == [["N", 4, 8, 8], ["N", 3, 64, 64]]
    assert manifest(exported)["graphs"]["vae_decoder"]["relative_error"] < 5e-3


def test_a_decoder_from_elsewhere_and_without_its_encoder(tree: Path, model_set: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("decoder"))
    shutil.copytree(tree / "decoder", tmp_path / "alone")
    weights = load_file(tree / "decoder" / WEIGHTS)
    save_file(
        {name: tensor for name, tensor in weights.items() if name.startswith("decoder.")}, tmp_path / "alone" / WEIGHTS
    )
    named = export(tmp_path / "tree", tmp_path / "named", "--decoder", str(tmp_path / "alone"))
    # The same weights give the same bytes: the manifest holds the hash of every file.
    assert (named / "manifest.json").read_bytes() == (model_set / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"latent_channels": 8}, ["latent_channels is 8, expected 4, the VAE's"]),
        ({"upsampling_scaling_factor": 3}, ["images of 216x216, expected 64x64"]),
        ({"decoder_block_out_channels": [8] * 3, "num_decoder_blocks": [1] * 3}, ["images of 32x32, expected 64x64"]),
        ({"decoder_block_out_channels": [8, 8, 8, 16]}, ["[8, 8, 8, 16], expected [8, 8, 8, 8], one width for all"]),
        ({"act_fn": "silu"}, ["act_fn is 'silu'", "'relu'"]),
        ({"upsample_fn": "bilinear"}, ["upsample_fn is 'bilinear'", "'nearest'"]),
        ({"out_channels": 4}, ["out_channels is 4", "expected 3"]),
        ({"scaling_factor": 0}, ["scaling_factor is 0, expected a positive number"]),
        ({"shift_factor": 0.1}, ["shift_factor is 0.1"]),
    ],
)
def test_a_decoder_that_does_not_fit(
    config: dict[str, Any], words: list[str], tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_decoder(tmp_path / "other", **config)
    arguments = [str(tree), "--decoder", str(folder)]
    assert_refused(capsys, arguments, tmp_path / "set", f"{folder / 'config.json'}: ", *words)


def test_a_decoder_of_another_class(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = shutil.copytree(tree, tmp_path / "tree")
    config = broken / "decoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "AutoencoderKL"}))
    assert_refused(capsys, [str(broken)], tmp_path / "set", f"{config}: _class_name is 'AutoencoderKL'")
    shutil.rmtree(broken / "decoder")
    shutil.copytree(broken / "sd-vae", broken / "decoder")
    assert_refused(capsys, [str(broken)], tmp_path / "set", f"{config}: _class_name is 'AutoencoderKL'")


def test_a_decoder_whose_weights_are_others(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_decoder(tmp_path / "wide", decoder_block_out_channels=[16] * 4)
    shutil.copy(tree / "decoder" / WEIGHTS, folder / WEIGHTS)
    arguments = [str(tree), "--decoder", str(folder)]
    assert_refused(capsys, arguments, tmp_path / "set", str(folder / WEIGHTS), "[8, 4, 3, 3], expected [16, 4, 3, 3]")
    (folder / WEIGHTS).unlink()
    assert_refused(capsys, arguments, tmp_path / "set", f"{folder}: no weights")


def test_a_decoder_that_is_no_folder(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tree / "decoder" / WEIGHTS
    assert_refused(capsys, [str(tree), "--decoder", str(file)], tmp_path / "set", "--decoder takes a folder")
    assert_refused(capsys, [str(tree), "--decoder", str(tmp_path / "gone")], tmp_path / "set", "gone: no such decoder")


def test_init_writes_the_decoder_in_both_trees(tree: Path, tmp_path: Path) -> None:
    init_checkpoint(replace(PRESET, folder="student"), tmp_path / "diffusers", tree="diffusers")
    for name in ("config.json", WEIGHTS):
        assert (tmp_path / "diffusers" / "decoder" / name).read_bytes() == (tree / "decoder" / name).read_bytes()


@pytest.mark.slow
def test_the_demo_model_has_20_mb_and_no_attention_at_32x32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "demo", str(tmp_path / "demo")]) == 0
    exported = export(tmp_path / "demo", tmp_path / "set")
    rows = {row.split()[0]: row.split() for row in capsys.readouterr().out.splitlines()}
    assert rows["vae_decoder"][2:5] == ["AutoencoderTiny", "0.08", "M"]
    assert sum((exported / f"{graph}.onnx{end}").stat().st_size for graph in GRAPHS for end in ("", ".data")) < 20 << 20
    folded = [
        numpy_helper.to_array(tensor).tolist()
        for tensor in load_graphs(exported)["unet"].graph.initializer
        if list(tensor.dims) == [4]
    ]
    lengths = {shape[1] for shape in folded if shape[0] == -1}
    assert 256 in lengths
    assert 1024 not in lengths
    with np.load(exported / "golden.npz") as golden:
        assert 0.1 < golden["chain.images"][:, :, hidden_rows(256) :].std() < 0.3
        assert golden["chain.images"].shape == (8, 3, 256, 256)


def test_a_stream_with_a_small_decoder_on_the_same_avatar(
    checkpoint: Path, modelset: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path
) -> None:
    """The avatar was made with a bundle that has the VAE's own decoder."""
    from musetalk_engines.cli import main as build_engines

    small = save_decoder(tmp_path / "decoder")
    named, plain = manifest(export(checkpoint, tmp_path / "set", "--decoder", str(small))), manifest(modelset)
    assert plain["graphs"]["vae_decoder"]["class"] == "AutoencoderKL"
    assert named["graphs"]["vae_decoder"]["class"] == "AutoencoderTiny"
    assert named["model"] == plain["model"]  # the encoder is the same, and so are the avatars
    arguments = [str(tmp_path / "set"), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime"]
    assert build_engines([*arguments, "--batch-sizes", "1"]) == 0
    with (
        Bundle.open(tmp_path / "bundle") as bundle,
        Avatar.open(avatar) as opened,
        Session(bundle, opened, speech(1.0), fps=25) as session,
    ):
        data = b"".join(session.stream())
    with av.open(io.BytesIO(data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
