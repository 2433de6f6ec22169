"""A state dict: a model's weights by their names, out of what trainers nest them in and wrap their names with."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from musetalk_export.checkpoint.names import listed
from musetalk_runtime.core.errors import InvalidCheckpoint

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]

# The keys that trainers keep a state dict under, those of averaged weights first: they are what is to be used.
AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "ema")
NESTS = (*AVERAGED, "state_dict", "model_state_dict", "unet_state_dict", "model", "module", "unet", "net", "params")
MAX_DEPTH = 4

WRAPPERS = (
    "module.",
    "_orig_mod.",
    "model.",
    "unet.",
)  # DataParallel's and AveragedModel's, torch.compile's, a class's
EMA_PREFIX = "ema_model."  # beside the weights that are not averaged
COMPILED = "._orig_mod."

OPENAI = (
    "OpenAI's own format of Whisper: put config.json and model.safetensors of huggingface.co/openai/whisper-tiny there"
)
NAMELESS = "averaged weights without names, of diffusers' EMAModel: copy them to a model, and save its state_dict"


def state_dict(file: Path, found: Any) -> Weights:
    """The weights by name in `found`, which `file` holds, however they are nested and their names wrapped.

    Averaged weights are taken where there are any, and what is left out is told. Raises InvalidCheckpoint if there
    are none, or if two names become one.
    """
    return _unwrapped(file, _unnested(file, found))


def _unnested(file: Path, found: Any) -> Weights:
    for _ in range(MAX_DEPTH):
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name): tensor for name, tensor in found.items()}
        if {"dims", "model_state_dict"} <= found.keys():
            raise InvalidCheckpoint(f"{file}: {OPENAI}")
        keys = [key for key in NESTS if isinstance(found.get(key), Mapping)]
        named = [key for key in keys if "shadow_params" not in found[key]]
        if not named:
            if keys or "shadow_params" in found:
                raise InvalidCheckpoint(f"{file}: {NAMELESS}")
            break
        _tell_choice(file, named[0], [key for key in keys if key != named[0]])
        found = found[named[0]]
    raise InvalidCheckpoint(f"{file}: expected names and tensors, found something else: save a state_dict")


def _unwrapped(file: Path, weights: Weights) -> Weights:
    averaged = {name: tensor for name, tensor in weights.items() if name.startswith(EMA_PREFIX)}
    if averaged:
        _tell_choice(
            file, EMA_PREFIX[:-1], sorted({name.partition(".")[0] for name in weights.keys() - averaged.keys()})
        )
        weights = {name.removeprefix(EMA_PREFIX): tensor for name, tensor in averaged.items()}
    if any(name.startswith("module.") for name in weights):
        weights = {name: tensor for name, tensor in weights.items() if name != "n_averaged"}  # AveragedModel's count
    names = {name: name for name in weights}
    while prefix := next((prefix for prefix in WRAPPERS if all(new.startswith(prefix) for new in names.values())), ""):
        names = {name: new.removeprefix(prefix) for name, new in names.items()}
    plain = {name: f".{new}".replace(COMPILED, ".")[1:] for name, new in names.items()}
    if len(set(plain.values())) < len(plain):
        raise InvalidCheckpoint(f"{file}: two of its weights have one name when 'module.' and the like are taken away")
    return {plain[name]: tensor for name, tensor in weights.items()}


def _tell_choice(file: Path, read: str, others: list[str]) -> None:
    if others:
        log.warning("%s: its %s is read, and not its %s", file, read, listed(others))
