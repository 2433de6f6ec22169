"""A checkpoint: the UNet, the VAE, Whisper's encoder and a small decoder, checked against each other, and measured."""

import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from musetalk_export.checkpoint.config import read_config
from musetalk_export.checkpoint.models import read_audio, read_decoder, read_unet, read_vae
from musetalk_export.checkpoint.state_dict import Weights
from musetalk_export.checkpoint.tree import Part, Parts, find_parts
from musetalk_runtime.core.errors import InvalidCheckpoint
from musetalk_runtime.core.model import SAMPLE_RATE, STEP, ModelSpec

log = logging.getLogger(__name__)

USUAL_SIZE, MAX_SIZE = 256, 1024  # pixels of a face's side: MuseTalk's, and the largest
WINDOW_STEPS, WINDOW_BEFORE = 10, 4  # MuseTalk's: 200 ms of audio a frame, from 80 ms before it


@dataclass
class Checkpoint:
    """The original modules, in FP32 on the CPU and in inference mode, and the sizes they have together.

    ``decoder`` is `vae` itself, or the AutoencoderTiny that takes the place of its decoder.
    """

    unet: Any  # UNet2DConditionModel
    vae: Any  # AutoencoderKL
    audio: Any  # WhisperEncoder
    decoder: Any  # AutoencoderKL or AutoencoderTiny
    spec: ModelSpec


def read_checkpoint(path: Path, unet_file: Path | None = None, decoder_folder: Path | None = None) -> Checkpoint:
    """Read the tree at `path`, its UNet from `unet_file` and its decoder from `decoder_folder` if given.

    ``tree`` says what lies where. Nothing is downloaded and nothing but tensors is unpickled. Raises InputNotFound,
    InvalidArgument, or InvalidCheckpoint naming the file, what is wrong with it, and what was expected.
    """
    parts = find_parts(path, unet_file, decoder_folder)
    unet, vae, audio = read_unet(parts.unet), read_vae(parts.vae), read_audio(parts.audio)
    decoder = vae if parts.decoder is None else read_decoder(parts.decoder)
    _check_fit(parts, unet, vae, audio)
    spec = _spec(parts, unet, vae, audio)
    if parts.decoder is not None:
        _check_decoder(parts.decoder, decoder.config, spec)
    return Checkpoint(unet, vae, audio, decoder, spec)


def _check_fit(parts: Parts, unet: Any, vae: Any, audio: Any) -> None:
    file, latents = parts.unet.config, vae.config.latent_channels
    for name, found, expected, why in (
        ("cross_attention_dim", unet.config.cross_attention_dim, audio.config.d_model, "Whisper's d_model"),
        ("in_channels", unet.config.in_channels, 2 * latents, "twice the VAE's latent channels"),
        ("out_channels", unet.config.out_channels, latents, "the VAE's latent channels"),
    ):
        if found != expected:
            raise InvalidCheckpoint(f"{file}: {name} is {found}, expected {expected}, {why}")
    _check_scale(parts.vae, vae.config)
    positions = audio.config.max_source_positions
    if positions * STEP % SAMPLE_RATE:
        raise InvalidCheckpoint(f"{parts.audio.config}: max_source_positions is {positions}, expected 50 a second")


def _check_scale(part: Part, config: Any) -> None:
    scale = config.scaling_factor
    if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise InvalidCheckpoint(f"{part.config}: scaling_factor is {scale!r}, expected a positive number")


def _check_decoder(part: Part, config: Any, spec: ModelSpec) -> None:
    """Raise InvalidCheckpoint unless an AutoencoderTiny of `config` makes this model's images from its latents."""
    _check_scale(part, config)
    widths, factor = list(config.decoder_block_out_channels), config.upsampling_scaling_factor
    for name, found, expected, why in (
        ("latent_channels", config.latent_channels, spec.latent_channels, "the VAE's"),
        ("decoder_block_out_channels", widths, widths[:1] * len(widths), "one width for all"),
    ):
        if found != expected:
            raise InvalidCheckpoint(f"{part.config}: {name} is {found}, expected {expected}, {why}")
    size = spec.latent_size * factor ** (len(widths) - 1)
    if size != spec.image_size:
        raise InvalidCheckpoint(
            f"{part.config}: {len(widths)} blocks, upsampling_scaling_factor {factor}: images of {size}x{size}, "
            f"expected {spec.image_size}x{spec.image_size}, the VAE's"
        )


def _spec(parts: Parts, unet: Any, vae: Any, audio: Any) -> ModelSpec:
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent_size = _latent_size(parts, factor)
    multiple = 2 ** (len(unet.config.block_out_channels) - 1)
    if latent_size % multiple:
        raise InvalidCheckpoint(f"{parts.unet.config}: latents of {latent_size}x{latent_size}: expected {multiple}*n")
    image_size = latent_size * factor
    if image_size > MAX_SIZE:
        raise InvalidCheckpoint(f"{parts.vae.config}: faces of {image_size}x{image_size}, expected at most {MAX_SIZE}")
    if image_size != USUAL_SIZE:
        log.warning("%s: faces of %dx%d; MuseTalk's are 256x256", parts.vae.config, image_size, image_size)
    return ModelSpec(
        image_size=image_size,
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


def _latent_size(parts: Parts, factor: int) -> int:
    """The smaller of what the two configs say.

    MuseTalk's faces are 256x256: its VAE's config says so, its UNet's still has Stable Diffusion's 64x64 latents.
    """
    sizes = [(parts.unet.config, 1), (parts.vae.config, factor)]
    found = [read_config(file).get("sample_size") for file, _ in sizes]
    declared = [value // unit for value, (_, unit) in zip(found, sizes, strict=True) if isinstance(value, int)]
    if not declared or min(declared) < 1:
        raise InvalidCheckpoint(f"{parts.vae.config}: sample_size is {found[1]}, expected the face's size in pixels")
    return min(declared)


def _encoder_id(vae: Any) -> str:
    """The id of all that makes latents."""
    weights = vae.state_dict().items()
    return weights_id({name: tensor for name, tensor in weights if name.startswith(("encoder.", "quant_conv."))})


def weights_id(weights: Weights) -> str:
    """SHA-256 over names and little-endian FP32 values, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def count(*modules: nn.Module | None) -> int:
    """Parameters of `modules`."""
    return sum(parameter.numel() for module in modules if module is not None for parameter in module.parameters())
