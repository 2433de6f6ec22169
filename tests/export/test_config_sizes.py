"""Sizes in configs are bounded before anything is built of them, and what is not used of a config is told once."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.graphs import assert_refused
from helpers.training import options
from helpers.weights import edit_config
from musetalk_distill.train.tasks.factory import make_task
from musetalk_distill.train.tasks.student import make_student, student_config
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_export.checkpoint.preset import PRESETS
from musetalk_export.progress import progress_shown
from musetalk_runtime.core.errors import InvalidCheckpoint

UNET, VAE, WHISPER = "student/unet.json", "sd-vae/config.json", "whisper/config.json"
WIDE = {"block_out_channels": [8192] * 3, "norm_num_groups": 8, "transformer_layers_per_block": 16}


@pytest.mark.parametrize(
    ("config", "values", "words"),
    [
        (UNET, {"layers_per_block": 2_000_000}, ["layers_per_block is 2000000, expected at most 16"]),
        (UNET, {"layers_per_block": [1, 1, 10**300]}, ["layers_per_block is 1000", "expected at most 16"]),
        (UNET, {"transformer_layers_per_block": 1e9}, ["transformer_layers_per_block is 1000000000.0"]),
        (UNET, {"reverse_transformer_layers_per_block": [[1, 99]]}, ["reverse_transformer_layers_per_block is 99"]),
        (
            UNET,
            {"down_block_types": ["DownBlock2D"] * 40_000},
            ["down_block_types has 40000 entries, expected at most"],
        ),
        (UNET, {"block_out_channels": [16, 32, 1 << 40]}, ["block_out_channels is 1099511627776"]),
        (UNET, {"cross_attention_dim": 10**9}, ["cross_attention_dim is 1000000000"]),
        (UNET, WIDE, ["a model of ", " billion parameters, expected at most 4 billion"]),
        (VAE, {"layers_per_block": 2_000_000}, ["layers_per_block is 2000000"]),
        (VAE, {"latent_channels": 10**9}, ["latent_channels is 1000000000"]),
        (VAE, {"sample_size": 1 << 20}, ["unet.json: latents of", "expected"]),
        (WHISPER, {"encoder_layers": 2_000_000}, ["encoder_layers is 2000000, expected at most 64"]),
        (WHISPER, {"max_source_positions": 10**7}, ["max_source_positions is 10000000, expected at most 3000"]),
    ],
)
def test_sizes_beyond_any_model_are_refused(
    config: str, values: dict[str, Any], words: list[str], copied: Path, tmp_path: Path, capsys: Any
) -> None:
    edit_config(copied / config, **values)
    if "sample_size" in values:
        edit_config(copied / UNET, sample_size=None)
        words = ["sd-vae/config.json: faces of 1048576x1048576, expected at most 1024"]
    assert_refused(capsys, [str(copied)], tmp_path / "set", config, *words)


def test_a_decoder_beyond_any_is_refused(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "decoder").mkdir()
    (copied / "decoder" / "unet.pth").write_bytes((copied / "student" / "unet.pth").read_bytes())
    config = {"_class_name": "AutoencoderTiny", "num_decoder_blocks": [3, 3, 3, 1_000_000]}
    (copied / "decoder" / "config.json").write_text(json.dumps(config))
    words = ["decoder/config.json: num_decoder_blocks is 1000000, expected at most 16"]
    assert_refused(capsys, [str(copied)], tmp_path / "set", *words)


def test_a_student_beyond_any_is_refused(musetalk_tree: Path, tmp_path: Path) -> None:
    teacher = read_checkpoint(musetalk_tree).unet
    file = tmp_path / "student.json"
    for values, words in (
        ({"layers_per_block": 2_000_000}, "layers_per_block is 2000000, expected at most 16"),
        (WIDE, "billion parameters"),
        ({"block_out_channels": [15, 32, 64]}, "no model can be built"),
    ):
        file.write_text(json.dumps(values))
        with pytest.raises(InvalidCheckpoint, match=f"the student's config: .*{words}"):
            make_student(teacher, student_config(PRESETS["tiny"].unet, str(file)), 0)


def test_settings_that_are_not_used_are_told_once(
    copied: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A student's own config comes from its teacher's: diffusers would warn for both."""
    edit_config(copied / UNET, banana=1)
    edit_config(copied / WHISPER, pad_token_id=50257)  # beyond the vocabulary, which no encoder has
    spec = read_checkpoint(copied).spec
    caplog.clear()
    make_task(copied, spec, options("student"), 0)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    told = [record.getMessage() for record in caplog.records if "banana" in record.getMessage()]
    assert told == [f"{copied / UNET}: not used, since UNet2DConditionModel has no such settings: banana"]


def test_a_command_that_reads_a_checkpoint_twice_tells_once(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_config(copied / UNET, banana=1)
    with progress_shown("me", "musetalk_export"):
        for _ in range(2):
            read_checkpoint(copied)
    line = f"me: {copied / UNET}: not used, since UNet2DConditionModel has no such settings: banana\n"
    assert capsys.readouterr().err == line
