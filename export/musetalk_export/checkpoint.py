"""A checkpoint: the UNet, the VAE and Whisper's encoder, read, checked against each other, and measured."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from musetalk_export.tree import Part, find_parts
from musetalk_export.weights import Weights, fill, read_config, read_weights
from musetalk_runtime.errors import InvalidCheckpoint
from musetalk_runtime.model import SAMPLE_RATE, STEP, ModelSpec

WINDOW_STEPS, WINDOW_BEFORE = 10, 4  # MuseTalk's: 200 ms of audio a frame, from 80 ms before it

# What the graphs do not compute; with any other value of these settings they would be another model.
UNET_SETTINGS = {
    "addition_embed_type": (None,),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_type": ("positional",),
}
VAE_SETTINGS = {"latents_mean": (None,), "latents_std": (None,), "shift_factor": (None,), "in_channels": (3,)}
UNET_BLOCKS = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
VAE_BLOCKS = {"DownEncoderBlock2D", "UpDecoderBlock2D"}

# diffusers renamed the VAE's attention weights; sd-vae-ft-mse still has the old names.
OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


@dataclass
class Checkpoint:
    """The original modules, in FP32 on the CPU and in inference mode, and the sizes they have together."""

    unet: Any  # UNet2DConditionModel
    vae: Any  # AutoencoderKL
    audio: Any  # WhisperEncoder
    spec: ModelSpec


def read_checkpoint(path: Path, unet_file: Path | None = None) -> Checkpoint:
    """Read the tree at `path`, its UNet from `unet_file` if given; ``tree`` says what lies where.

    Nothing is downloaded and nothing but tensors is unpickled. Raises InputNotFound, InvalidArgument, or
    InvalidCheckpoint naming the file, what is wrong with it, and what was expected.
    """
    parts = find_parts(path, unet_file)
    unet = _read_unet(parts[0])
    vae = _read_vae(parts[1])
    audio = _read_audio(parts[2])
    _check_fit(parts, unet, vae, audio)
    return Checkpoint(unet, vae, audio, _spec(parts, unet, vae, audio))


def _read_unet(part: Part) -> Any:
    unet = _build(part, UNet2DConditionModel.from_config, read_config(part.config))
    _check_settings(part.config, unet.config, UNET_SETTINGS)
    _check_blocks(part.config, UNET_BLOCKS, (*unet.config.down_block_types, *unet.config.up_block_types))
    fill(unet, read_weights(part.weights), part.weights[0], part.config)
    return unet


def _read_vae(part: Part) -> Any:
    vae = _build(part, AutoencoderKL.from_config, read_config(part.config))
    _check_settings(part.config, vae.config, VAE_SETTINGS)
    _check_blocks(part.config, VAE_BLOCKS, (*vae.config.down_block_types, *vae.config.up_block_types))
    fill(vae, _new_names(read_weights(part.weights)), part.weights[0], part.config)
    return vae


def _read_audio(part: Part) -> Any:
    config = _build(part, WhisperConfig.from_dict, read_config(part.config))
    audio = _build(part, WhisperEncoder, config)
    fill(audio, _encoder_only(read_weights(part.weights)), part.weights[0], part.config)
    return audio


def _build(part: Part, make: Callable[[Any], Any], config: Any) -> Any:
    """A model without memory: the weights that take its parameters' place are already in memory or mapped."""
    try:
        with torch.device("meta"):
            return make(config)
    except Exception as error:  # whatever a wrong config makes diffusers or transformers raise
        reason = str(error).partition("\n")[0]
        raise InvalidCheckpoint(f"{part.config}: no model can be built from it: {reason}") from error


def _check_settings(file: Path, config: Any, settings: dict[str, tuple[Any, ...]]) -> None:
    for name, allowed in settings.items():
        value = config.get(name, allowed[0])
        if value not in allowed:
            expected = " or ".join(repr(choice) for choice in allowed)
            raise InvalidCheckpoint(f"{file}: {name} is {value!r}, which cannot be exported: expected {expected}")


def _check_blocks(file: Path, known: set[str], blocks: tuple[str, ...]) -> None:
    for name in blocks:
        if name not in known:
            raise InvalidCheckpoint(f"{file}: a block is {name!r}: expected {', '.join(sorted(known))}")


def _check_fit(parts: tuple[Part, Part, Part], unet: Any, vae: Any, audio: Any) -> None:
    file, latents = parts[0].config, vae.config.latent_channels
    for name, found, expected, why in (
        ("cross_attention_dim", unet.config.cross_attention_dim, audio.config.d_model, "Whisper's d_model"),
        ("in_channels", unet.config.in_channels, 2 * latents, "twice the VAE's latent channels"),
        ("out_channels", unet.config.out_channels, latents, "the VAE's latent channels"),
    ):
        if found != expected:
            raise InvalidCheckpoint(f"{file}: {name} is {found}, expected {expected}, {why}")
    scale, positions = vae.config.scaling_factor, audio.config.max_source_positions
    if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise InvalidCheckpoint(f"{parts[1].config}: scaling_factor is {scale!r}, expected a positive number")
    if positions * STEP % SAMPLE_RATE:
        raise InvalidCheckpoint(f"{parts[2].config}: max_source_positions is {positions}, expected 50 a second")


def _spec(parts: tuple[Part, Part, Part], unet: Any, vae: Any, audio: Any) -> ModelSpec:
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent_size = _latent_size(parts, factor)
    multiple = 2 ** (len(unet.config.block_out_channels) - 1)
    if latent_size % multiple:
        raise InvalidCheckpoint(f"{parts[0].config}: latents of {latent_size}x{latent_size}: expected {multiple}*n")
    return ModelSpec(
        image_size=latent_size * factor,
        latent_size=latent_size,
        latent_channels=vae.config.latent_channels,
        scaling_factor=vae.config.scaling_factor,
        mel_bins=audio.config.num_mel_bins,
        audio_states=audio.config.encoder_layers + 1,
        audio_width=audio.config.d_model,
        audio_seconds=audio.config.max_source_positions * STEP // SAMPLE_RATE,
        window_steps=WINDOW_STEPS,
        window_before=WINDOW_BEFORE,
        encoder_id=_encoder_id(vae),
    )


def _latent_size(parts: tuple[Part, Part, Part], factor: int) -> int:
    """The smaller of what the two configs say.

    MuseTalk's faces are 256x256: its VAE's config says so, its UNet's still has Stable Diffusion's 64x64 latents.
    """
    sizes = [(parts[0].config, 1), (parts[1].config, factor)]
    found = [read_config(file).get("sample_size") for file, _ in sizes]
    declared = [value // unit for value, (_, unit) in zip(found, sizes, strict=True) if isinstance(value, int)]
    if not declared or min(declared) < 1:
        raise InvalidCheckpoint(f"{parts[1].config}: sample_size is {found[1]}, expected the face's size in pixels")
    return min(declared)


def _encoder_id(vae: Any) -> str:
    """SHA-256 over names and little-endian FP32 values of all that makes latents, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


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


def count(*modules: nn.Module | None) -> int:
    """Parameters of `modules`."""
    return sum(parameter.numel() for module in modules if module is not None for parameter in module.parameters())
