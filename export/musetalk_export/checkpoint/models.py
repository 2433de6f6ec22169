"""The models of a checkpoint, each from its config and its weights: FP32, on the CPU, in inference mode.

Each function raises InvalidCheckpoint naming the file, what is wrong with it, and what was expected.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from musetalk_export.checkpoint.config_checks import (
    DECODER_SETTINGS,
    UNET_BLOCKS,
    UNET_SETTINGS,
    VAE_BLOCKS,
    VAE_SETTINGS,
    check_blocks,
    check_settings,
)
from musetalk_export.checkpoint.tree import Part
from musetalk_export.checkpoint.weights import Weights, fill, read_config, read_weights
from musetalk_runtime.core.errors import InvalidCheckpoint

# diffusers renamed the VAE's attention weights; sd-vae-ft-mse still has the old names.
OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_unet(part: Part) -> Any:
    """A UNet2DConditionModel."""
    unet = _build(part, UNet2DConditionModel.from_config, read_config(part.config))
    check_settings(part.config, unet.config, UNET_SETTINGS)
    check_blocks(part.config, UNET_BLOCKS, (*unet.config.down_block_types, *unet.config.up_block_types))
    fill(unet, read_weights(part.weights), part.weights[0], part.config)
    return unet


def read_vae(part: Part) -> Any:
    """An AutoencoderKL."""
    vae = _build(part, AutoencoderKL.from_config, read_config(part.config))
    check_settings(part.config, vae.config, VAE_SETTINGS)
    check_blocks(part.config, VAE_BLOCKS, (*vae.config.down_block_types, *vae.config.up_block_types))
    fill(vae, _new_names(read_weights(part.weights)), part.weights[0], part.config)
    return vae


def read_audio(part: Part) -> Any:
    """A WhisperEncoder."""
    config = _build(part, WhisperConfig.from_dict, read_config(part.config))
    audio = _build(part, WhisperEncoder, config)
    fill(audio, _encoder_only(read_weights(part.weights)), part.weights[0], part.config)
    return audio


def read_decoder(part: Part) -> Any:
    """An AutoencoderTiny without its encoder, which its file may hold or not."""
    config = read_config(part.config)
    name = config.get("_class_name")
    if name != "AutoencoderTiny":
        raise InvalidCheckpoint(f"{part.config}: _class_name is {name!r}, expected 'AutoencoderTiny'")
    config.pop("block_out_channels", None)  # the decoder's widths again: diffusers writes it and warns of it
    tiny = _build(part, AutoencoderTiny.from_config, config)
    check_settings(part.config, tiny.config, DECODER_SETTINGS)
    fill(tiny.decoder, _decoder_only(read_weights(part.weights)), part.weights[0], part.config)
    tiny.encoder = None
    return tiny


def _build(part: Part, make: Callable[[Any], Any], config: Any) -> Any:
    """A model without memory: the weights that take its parameters' place are already in memory or mapped."""
    try:
        with torch.device("meta"):
            return make(config)
    except Exception as error:  # whatever a wrong config makes diffusers or transformers raise
        reason = str(error).partition("\n")[0]
        raise InvalidCheckpoint(f"{part.config}: no model can be built from it: {reason}") from error


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
