"""Checkpoints as they come: MuseTalk's own files, students, old names, and broken ones, which leave nothing behind."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.graphs import assert_refused
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_export.checkpoint.preset import init_checkpoint
from musetalk_export.cli import main
from musetalk_runtime.core.errors import InvalidArgument


@pytest.fixture
def checkpoint(musetalk_tree: Path, tmp_path: Path) -> Path:
    """A copy to break, in MuseTalk's tree."""
    return shutil.copytree(musetalk_tree, tmp_path / "checkpoint")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "set"


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def edit_weights(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    torch.save(change(torch.load(file, weights_only=True)), file)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("folder", ["musetalk", "musetalkV15", "unet"])
def test_the_unet_is_found_in_each_of_its_folders(folder: str, checkpoint: Path) -> None:
    (checkpoint / "student").rename(checkpoint / folder)
    (checkpoint / folder / "unet.pth").rename(checkpoint / folder / "pytorch_model.bin")
    assert read_checkpoint(checkpoint).unet.config.in_channels == 8


def test_older_files_read_the_same(musetalk_tree: Path, checkpoint: Path) -> None:
    """FP16 weights nested by a trainer, Whisper with a language model's prefix, the VAE's attention as it was named."""
    edit_weights(
        checkpoint / "student" / "unet.pth",
        lambda weights: {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}},
    )
    edit_weights(
        checkpoint / "whisper" / "pytorch_model.bin",
        lambda weights: {f"model.{name}": tensor for name, tensor in weights.items()},
    )
    new_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(weights: dict[str, Any]) -> dict[str, Any]:
        renamed = {}
        for name, tensor in weights.items():
            for new, old in new_names.items():
                name = name.replace(f".{new}.", f".{old}.")  # noqa: PLW2901
            renamed[name] = tensor
        return renamed

    edit_weights(checkpoint / "sd-vae" / "diffusion_pytorch_model.bin", rename)
    (checkpoint / "sd-vae").rename(checkpoint / "sd-vae-ft-mse")
    older, newer = read_checkpoint(checkpoint), read_checkpoint(musetalk_tree)
    assert older.spec == newer.spec
    for model in ("unet", "vae", "audio"):
        expected = getattr(newer, model).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in getattr(older, model).state_dict().items())


def test_weights_in_fp16_are_read_as_fp32(checkpoint: Path) -> None:
    edit_weights(
        checkpoint / "student" / "unet.pth",
        lambda weights: {name: tensor.half() for name, tensor in weights.items()},
    )
    assert {parameter.dtype for parameter in read_checkpoint(checkpoint).unet.parameters()} == {torch.float32}


def test_musetalks_own_config_has_a_larger_unet_than_its_vae(checkpoint: Path) -> None:
    edit(checkpoint / "student" / "unet.json", sample_size=64)
    assert read_checkpoint(checkpoint).spec.image_size == 256


def test_a_folder_that_is_not_there(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, [str(tmp_path / "nowhere")], output, "nowhere: no such checkpoint")


def test_a_unet_file_that_is_not_there(checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, [str(checkpoint), "--unet", "gone.pth"], output, "gone.pth: no such UNet")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("student", ["no UNet", "musetalkV15"]),
        ("sd-vae", ["no VAE", "sd-vae-ft-mse"]),
        ("whisper", ["no Whisper"]),
        ("student/unet.pth", ["student: no weights", "unet.pth"]),
        ("student/unet.json", ["no config.json or unet.json"]),
        ("whisper/config.json", ["whisper", "config.json"]),
    ],
)
def test_a_missing_part(
    missing: str, words: list[str], checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert_refused(capsys, [str(checkpoint)], output, *words)


@pytest.mark.parametrize(
    ("config", "values", "words"),
    [
        ("student/unet.json", {"in_channels": 4}, ["conv_in.weight is [16, 8, 3, 3], expected [16, 4, 3, 3]"]),
        ("student/unet.json", {"cross_attention_dim": 768}, ["attn2.to_k.weight", "768"]),
        ("student/unet.json", {"layers_per_block": 2}, ["weights missing", "resnets.1"]),
        ("student/unet.json", {"resnet_time_scale_shift": "scale_shift"}, ["resnet_time_scale_shift", "'default'"]),
        ("student/unet.json", {"mid_block_type": "UNetMidBlock2D"}, ["mid_block_type", "UNetMidBlock2DCrossAttn"]),
        ("student/unet.json", {"down_block_types": ["AttnDownBlock2D"] * 3}, ["AttnDownBlock2D"]),
        ("student/unet.json", {"block_out_channels": [15, 32, 64]}, ["unet.json: no model can be built"]),
        ("student/unet.json", {"block_out_channels": "wide"}, ["unet.json: no model can be built"]),
        ("student/unet.json", {"sample_size": 30}, ["30x30"]),
        ("sd-vae/config.json", {"shift_factor": 0.1}, ["shift_factor is 0.1"]),
        ("sd-vae/config.json", {"scaling_factor": 0}, ["scaling_factor is 0, expected a positive number"]),
        ("whisper/config.json", {"d_model": 128}, ["whisper", "conv1.weight"]),
        ("whisper/config.json", {"encoder_attention_heads": 7}, ["whisper/config.json: no model can be built"]),
    ],
)
def test_a_config_that_does_not_fit(
    config: str, values: dict[str, Any], words: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(checkpoint / config, **values)
    assert_refused(capsys, [str(checkpoint)], checkpoint.with_name("set"), *words)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"' + "x" * (1 << 20) + '"'])
def test_a_config_that_is_none(text: str, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "sd-vae" / "config.json").write_text(text)
    assert_refused(capsys, [str(checkpoint)], output, "sd-vae/config.json")


def test_a_whisper_of_another_width(checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unet = checkpoint / "student" / "unet.json"
    edit(unet, cross_attention_dim=32)
    edit_weights(
        checkpoint / "student" / "unet.pth",
        lambda weights: {
            name: tensor[:, :32].clone() if "attn2.to_k" in name or "attn2.to_v" in name else tensor
            for name, tensor in weights.items()
        },
    )
    assert_refused(capsys, [str(checkpoint)], output, "cross_attention_dim is 32, expected 64, Whisper's d_model")


def test_a_whisper_of_no_whole_number_of_seconds(
    checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(checkpoint / "whisper" / "config.json", max_source_positions=110)
    name = "encoder.embed_positions.weight"
    edit_weights(
        checkpoint / "whisper" / "pytorch_model.bin", lambda weights: weights | {name: weights[name][:110].clone()}
    )
    assert_refused(capsys, [str(checkpoint)], output, "max_source_positions is 110, expected 50 a second")


def test_weights_with_code_are_refused_and_not_run(
    checkpoint: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv_in.weight": RunsCode()}, checkpoint / "student" / "unet.pth")
    assert_refused(capsys, [str(checkpoint)], output, "student/unet.pth", "pickled code")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("size", [0, 100, 100_000])
@pytest.mark.parametrize("file", ["student/unet.pth", "whisper/model.safetensors"])
def test_truncated_weights(
    size: int, file: str, checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if file.endswith("safetensors"):
        save_file(torch.load(checkpoint / "whisper" / "pytorch_model.bin", weights_only=True), checkpoint / file)
    (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:size])
    word = "is empty" if not size else "cannot be read as safetensors" if "safetensors" in file else "truncated"
    assert_refused(capsys, [str(checkpoint)], output, f"{file}: {word}: ", "download or copy it again")


def test_weights_that_are_no_tensors(checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([1, 2], checkpoint / "student" / "unet.pth")
    assert_refused(capsys, [str(checkpoint)], output, "student/unet.pth", "state_dict")


def test_weights_that_are_not_finite(checkpoint: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage = {"conv_out.bias": torch.full((4,), torch.nan)}
    edit_weights(checkpoint / "student" / "unet.pth", lambda weights: weights | damage)
    assert_refused(capsys, [str(checkpoint)], output, "student/unet.pth: NaN or infinity", "conv_out.bias")


def test_an_output_that_is_something_else(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    assert_refused(capsys, [str(checkpoint)], tmp_path / "diary", "no model set")
    assert (tmp_path / "diary" / "monday.txt").exists()


def test_verbose_adds_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "-o", str(tmp_path / "set"), "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_init_is_deterministic_and_takes_new_folders_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    init_checkpoint("tiny", first)
    assert main(["init", "tiny", str(again), "--tree", "musetalk", "--seed", "0"]) == 0
    files = [file.relative_to(again) for file in again.rglob("*") if file.is_file()]
    assert len(files) == 6
    for file in files:
        assert (again / file).read_bytes() == (first / file).read_bytes()
    assert main(["init", "tiny", str(again)]) == 2
    assert main(["init", "huge", str(tmp_path / "huge")]) == 2
    assert "expected tiny, student, student-taesd, student-half-taesd, teacher" in capsys.readouterr().err
    with pytest.raises(InvalidArgument, match="no tree"):
        init_checkpoint("tiny", tmp_path / "other", tree="oak")
    assert sorted(tmp_path.iterdir()) == [again, first]


def test_help_shows_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["init", "--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
    assert "export-student init tiny" in capsys.readouterr().out
