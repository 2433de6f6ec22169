"""The models of a checkpoint, each from its config and its weights: FP32, on the CPU, in inference mode.

Each function raises InvalidCheckpoint naming the file, what is wrong with it, and what was expected.
"""

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from musetalk_export.checkpoint.config import read_config
from musetalk_export.checkpoint.config_checks import (
    DECODER_SETTINGS,
    DECODER_SIZES,
    UNET_BLOCKS,
    UNET_SETTINGS,
    UNET_SIZES,
    VAE_BLOCKS,
    VAE_SETTINGS,
    VAE_SIZES,
    WHISPER_SIZES,
    check_blocks,
    check_settings,
    check_sizes,
)
from musetalk_export.checkpoint.names import listed, printable
from musetalk_export.checkpoint.state_dict import Weights
from musetalk_export.checkpoint.tree import Part
from musetalk_export.checkpoint.weights import fill
from musetalk_export.log_level import log_level
from musetalk_runtime.core.errors import InvalidCheckpoint

log = logging.getLogger(__name__)

MAX_PARAMETERS = 4_000_000_000  # of one model; MuseTalk's UNet has 850 million

# diffusers renamed the VAE's attention weights; sd-vae-ft-mse still has the old names.
OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_unet(part: Part) -> Any:
    """A UNet2DConditionModel."""
    unet = build_unet(part.config, read_config(part.config))
    check_settings(part.config, unet.config, UNET_SETTINGS)
    check_blocks(part.config, UNET_BLOCKS, (*unet.config.down_block_types, *unet.config.up_block_types))
    fill(unet, part.weights.read(), part.weights.first, part.config)
    return unet


def read_vae(part: Part) -> Any:
    """An AutoencoderKL."""
    config = read_config(part.config)
    check_sizes(part.config, config, VAE_SIZES)
    vae = _build(part.config, AutoencoderKL.from_config, _known(part.config, config, AutoencoderKL))
    check_settings(part.config, vae.config, VAE_SETTINGS)
    check_blocks(part.config, VAE_BLOCKS, (*vae.config.down_block_types, *vae.config.up_block_types))
    fill(vae, _new_names(part.weights.read()), part.weights.first, part.config)
    return vae


def read_audio(part: Part) -> Any:
    """A WhisperEncoder."""
    config = read_config(part.config)
    check_sizes(part.config, config, WHISPER_SIZES)
    audio = _build(part.config, lambda known: WhisperEncoder(WhisperConfig.from_dict(known)), config)
    fill(audio, _encoder_only(part.weights.read()), part.weights.first, part.config)
    return audio


def read_decoder(part: Part) -> Any:
    """An AutoencoderTiny without its encoder, which its file may hold or not."""
    config = read_config(part.config)
    name = config.get("_class_name")
    if name != "AutoencoderTiny":
        raise InvalidCheckpoint(f"{part.config}: _class_name is {name!r}, expected 'AutoencoderTiny'")
    config.pop("block_out_channels", None)  # the decoder's widths again: diffusers writes it and warns of it
    check_sizes(part.config, config, DECODER_SIZES)
    tiny = _build(part.config, AutoencoderTiny.from_config, _known(part.config, config, AutoencoderTiny))
    check_settings(part.config, tiny.config, DECODER_SETTINGS)
    fill(tiny.decoder, _decoder_only(part.weights.read()), part.weights.first, part.config)
    tiny.encoder = None
    return tiny


def build_unet(file: Path, config: dict[str, Any]) -> Any:
    """A UNet2DConditionModel of `config`, which is that in `file`, on the meta device."""
    check_sizes(file, config, UNET_SIZES)
    return _build(file, UNet2DConditionModel.from_config, _known(file, config, UNet2DConditionModel))


def _build(file: Path, make: Callable[[Any], Any], config: Any) -> Any:
    """What `make` builds of `config`: without memory, for the weights that take its place are mapped or in memory."""
    try:
        # The libraries warn of settings that nothing here uses.
        with torch.device("meta"), log_level(logging.ERROR, "diffusers", "transformers"):
            model = make(config)
    except Exception as error:  # whatever a wrong config makes diffusers or transformers raise
        reason = printable(str(error).partition("\n")[0])
        raise InvalidCheckpoint(f"{file}: no model can be built from it: {reason}") from error
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise InvalidCheckpoint(f"{file}: a model of {count / 1e9:.1f} billion parameters, expected at most 4 billion")
    return model


def _known(file: Path, config: dict[str, Any], model: type) -> dict[str, Any]:
    """`config` without what `model` does not take, which is told: diffusers would, each time it sees it."""
    known = inspect.signature(model).parameters.keys()
    unknown = sorted(name for name in config if name not in known and not name.startswith("_"))
    if unknown:
        log.warning("%s: not used, since %s has no such settings: %s", file, model.__name__, listed(unknown))
    return {name: value for name, value in config.items() if name not in unknown}


def _new_names(weights: Weights) -> Weights:
    renamed = {}
    for name, tensor in weights.items():
        new = name
        if ".attentions." in name:
            for old, current in OLD_NAMES.items():
                new = new.replace(old, current)
        renamed[new] = tensor
    return renamed


def _encoder_only(weights: Weights) -> Weights:
    """Whisper's encoder out of a WhisperModel or a WhisperForConditionalGeneration."""
    stripped = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    return {name.removeprefix("encoder."): value for name, value in stripped.items() if name.startswith("encoder.")}


def _decoder_only(weights: Weights) -> Weights:
    """The small decoder's weights, out of a whole AutoencoderTiny or on their own."""
    return {name.removeprefix("decoder."): value for name, value in weights.items() if not name.startswith("encoder.")}
