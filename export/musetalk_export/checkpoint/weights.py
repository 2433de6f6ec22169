"""The reading of configs and weights: only tensors are ever unpickled, and every name and shape must fit."""

import json
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from musetalk_runtime.core.errors import InvalidCheckpoint

MAX_CONFIG_BYTES = 1 << 20
MAX_LISTED = 3  # names in an error message

Weights = dict[str, Tensor]


def read_config(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises InvalidCheckpoint if it is none, or larger than 1 MiB."""
    size = file.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise InvalidCheckpoint(f"{file}: {size} bytes, a model's config has at most {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{file}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise InvalidCheckpoint(f"{file}: expected a JSON object, found {type(config).__name__}")
    return config


def read_weights(files: Sequence[Path]) -> Weights:
    """All tensors of `files` by name, without a ``state_dict`` nesting or a ``module.`` prefix.

    Torch's files are read with ``weights_only=True`` and mapped, not copied. Raises InvalidCheckpoint naming a file
    that is truncated, holds pickled code, or holds anything but tensors.
    """
    weights: Weights = {}
    for file in files:
        weights |= _read_file(file)
    return weights


def fill(model: nn.Module, weights: Weights, file: Path, config: Path) -> None:
    """Make `weights` the parameters of `model` (built on the meta device), in FP32, for inference.

    Raises InvalidCheckpoint if a name is missing or unknown, or a shape differs, naming the first few.
    """
    expected = model.state_dict()
    faults = [
        *_listed("missing", expected.keys() - weights.keys()),
        *_listed("unknown", weights.keys() - expected.keys()),
        *_misshapen(expected, weights),
    ]
    if faults:
        raise InvalidCheckpoint(f"{file}: does not fit {config}: {'; '.join(faults)}")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    model.eval().requires_grad_(False)


def _read_file(file: Path) -> Weights:
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError:
        raise InvalidCheckpoint(f"{file}: not a file of tensors only (truncated, or it holds pickled code)") from None
    except (RuntimeError, SafetensorError, EOFError, ValueError, KeyError, OSError) as error:
        raise InvalidCheckpoint(f"{file}: cannot be read as weights: {str(error).partition(chr(10))[0]}") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InvalidCheckpoint(f"{file}: expected names and tensors, found something else: save a state_dict")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _listed(fault: str, names: set[str]) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > MAX_LISTED else ""
    return [f"{len(names)} weights {fault} ({', '.join(sorted(names)[:MAX_LISTED])}{more})"]


def _misshapen(expected: Weights, weights: Weights) -> list[str]:
    wrong = [
        f"{name} is {list(weights[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return [*wrong[:MAX_LISTED], *([f"and {len(wrong) - MAX_LISTED} more shapes"] if len(wrong) > MAX_LISTED else [])]
