"""Weights in files of every kind, for the tests of what reads them."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from musetalk_export.checkpoint.checkpoint import Checkpoint, read_checkpoint

Tensors = dict[str, torch.Tensor]

LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def load(file: Path) -> Any:
    return torch.load(file, weights_only=True)


def edit_weights(file: Path, change: Callable[[Tensors], Any]) -> None:
    torch.save(change(load(file)), file)


def edit_config(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def save_shards(folder: Path, weights: Tensors, total: int, stem: str = "diffusion_pytorch_model") -> dict[str, str]:
    """`weights` in `total` safetensors files; gives the file name of each tensor, as an index has it."""
    names, places = sorted(weights), {}
    for number in range(1, total + 1):
        file = folder / f"{stem}-{number:05}-of-{total:05}.safetensors"
        part = names[number - 1 :: total]
        save_file({name: weights[name].contiguous() for name in part}, file)
        places |= dict.fromkeys(part, file.name)
    return places


def save_index(file: Path, places: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def assert_same(one: Path, other: Path, parts: Sequence[str] = ("unet", "vae", "audio")) -> None:
    """The checkpoints at `one` and at `other`, which does not change, hold the same numbers."""
    found, expected = read_checkpoint(one), _read_once(other)
    for part in parts:
        weights = getattr(expected, part).state_dict()
        for name, tensor in getattr(found, part).state_dict().items():
            assert torch.equal(tensor, weights[name]), name


@cache
def _read_once(path: Path) -> Checkpoint:
    return read_checkpoint(path)
