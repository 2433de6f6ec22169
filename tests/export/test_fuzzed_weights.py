"""Weights that are nearly right: whatever comes, they are read, or refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import save_file

from helpers.fuzz_readers import Edit, edits, spoil
from musetalk_export.checkpoint.weights_files import find_weights
from musetalk_runtime.core.errors import InvalidCheckpoint

WEIGHTS = {f"block.{k}": torch.arange(12.0).reshape(3, 4) + k for k in range(6)}


@pytest.fixture(params=["zip", "legacy", "safetensors", "index"])
def fuzzed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The one file of a folder that is to be spoilt."""
    if request.param == "zip":
        torch.save(WEIGHTS, tmp_path / "unet.pth")
    elif request.param == "legacy":
        torch.save(WEIGHTS, tmp_path / "unet.pth", _use_new_zipfile_serialization=False)
    else:
        save_file(WEIGHTS, tmp_path / "model.safetensors")
    if request.param != "index":
        return next(tmp_path.iterdir())
    (tmp_path / "model.safetensors").rename(tmp_path / "shard.safetensors")
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "shard.safetensors")}))
    return file


def test_what_is_nearly_right_is_read_or_refused(fuzzed: Path) -> None:
    whole = fuzzed.read_bytes()
    assert find_weights(fuzzed.parent).read().keys() == WEIGHTS.keys()

    @given(edited=edits)
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    def spoilt(edited: list[Edit]) -> None:
        fuzzed.write_bytes(spoil(whole, edited))
        try:
            weights = find_weights(fuzzed.parent).read()
        except InvalidCheckpoint as error:
            text = str(error).replace(str(fuzzed.parent), "")
            assert text.isprintable()
            assert len(text) < 1000
            assert "weights_only" not in text
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())

    spoilt()
