"""Presets of checkpoints with random weights, for training from scratch, tests and benchmarks."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import nn
from transformers import WhisperConfig, WhisperModel

from musetalk_export.checkpoint.preset_configs import (
    DEMO_DECODER,
    DEMO_TEACHER_UNET,
    DEMO_UNET,
    DEMO_VAE,
    DEMO_WHISPER,
    HALF_TAESD_DECODER,
    SD_VAE,
    STUDENT_UNET,
    TAESD_DECODER,
    TEACHER_UNET,
    TINY_UNET,
    TINY_VAE,
    TINY_WHISPER,
    WHISPER_TINY,
)
from musetalk_export.checkpoint.save import save_model
from musetalk_export.write_error import writing
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.storage.folder import real_folder, written_aside

TREES = ("musetalk", "diffusers")

# E[silu(x)^2] = 0.356 for a standard normal x: what a last convolution sees after a norm and SiLU.
SILU_RMS = 0.597


@dataclass(frozen=True)
class Preset:
    """The configs of one model, and where MuseTalk's tree keeps its UNet: ``folder/unet.pth`` and ``config``.

    ``decoder`` is the config of an AutoencoderTiny that takes the place of the VAE's decoder.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    whisper: dict[str, Any]
    folder: str
    config: str
    decoder: dict[str, Any] | None = None


def init_checkpoint(preset: str | Preset, path: Path, *, tree: str = "musetalk", seed: int = 0) -> None:
    """Write a checkpoint of `preset` (one of ``PRESETS``, or its name) with random weights to the new folder `path`.

    `tree` is one of ``TREES``; the same preset and seed give the same weights in either. Weights are drawn so that
    activations keep their scale and outputs fill their range without saturating. Raises InvalidArgument if `preset`
    or `tree` is unknown, or `path` holds anything, and OutputError if it cannot be written; then nothing is.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise InvalidArgument(f"{preset!r} is no preset: expected {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    if tree not in TREES:
        raise InvalidArgument(f"{tree!r} is no tree: expected {', '.join(TREES)}")
    real_folder(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InvalidArgument(f"{path} exists: choose a new folder")
    with written_aside(path) as work:
        _write(preset, path, work, tree, seed)


def random_unet(config: dict[str, Any], seed: int = 0) -> Any:
    """A UNet2DConditionModel of `config` with random weights, whose prediction has about the scale of latents."""
    unet = _random(lambda: UNet2DConditionModel.from_config(config), seed)
    unet.conv_out.weight.mul_(1 / SILU_RMS)
    return unet


def random_vae(config: dict[str, Any], seed: int = 0) -> Any:
    """An AutoencoderKL of `config` with random weights: latents of unit scale, images of about 0.5 +- 0.2."""
    vae = _random(lambda: AutoencoderKL.from_config(config), seed)
    vae.encoder.conv_out.weight.mul_(1 / SILU_RMS)
    vae.decoder.conv_out.weight.mul_(0.4 / SILU_RMS)
    if vae.quant_conv is not None:
        # The mean's half only: a log-variance that wide would drown a sample.
        vae.quant_conv.weight[: vae.config.latent_channels].mul_(1 / vae.config.scaling_factor)
    if vae.post_quant_conv is not None:
        vae.post_quant_conv.weight.mul_(vae.config.scaling_factor)
    return vae


def random_decoder(config: dict[str, Any], seed: int = 0) -> Any:
    """An AutoencoderTiny of `config` with random weights: images around 0.5, hardly saturated, of unit latents.

    Without norms depth would change the scale: weights are He's, and each residual block starts near the identity.
    """
    tiny = _random(lambda: AutoencoderTiny.from_config(config), seed)
    for layer in tiny.decoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.mul_(math.sqrt(2))
    for layer in tiny.decoder.layers:
        if isinstance(layer, AutoencoderTinyBlock):
            layer.conv[-1].weight.mul_(0.2)
    tiny.decoder.layers[-1].weight.mul_(0.2 / math.sqrt(2))
    tiny.decoder.layers[-1].bias.add_(0.5)
    return tiny


def random_whisper(config: dict[str, Any], seed: int = 0) -> Any:
    """A WhisperModel of `config` with random weights; only its encoder is ever used."""
    return _random(lambda: WhisperModel(WhisperConfig(**config)), seed)


def _random(make: Callable[[], nn.Module], seed: int) -> Any:
    """The model `make` builds; weights of variance 1 / fan-in, norms and biases near one and zero but not at them."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(generator=generator)
        if parameter.ndim > 1:
            parameter.mul_(1 / math.sqrt(parameter[0].numel()))
        elif name.endswith("bias"):
            parameter.mul_(0.05)
        else:
            parameter.mul_(0.1).add_(1)
    return model


def _write(preset: Preset, path: Path, folder: Path, tree: str, seed: int) -> None:
    """Write `preset` into `folder`, which will be `path`."""
    unet, vae = random_unet(preset.unet, seed), random_vae(preset.vae, seed)
    whisper = random_whisper(preset.whisper, seed)
    decoder = None if preset.decoder is None else random_decoder(preset.decoder, seed)
    with writing(path, folder):
        if decoder is not None:
            save_model(decoder, folder / "decoder")
        if tree == "diffusers":
            for model, name in ((unet, "unet"), (vae, "vae"), (whisper, "whisper")):
                save_model(model, folder / name)
            return
        _save(unet, unet.config, folder / preset.folder / "unet.pth", preset.config)
        _save(vae, vae.config, folder / "sd-vae" / "diffusion_pytorch_model.bin", "config.json")
        _save(whisper, whisper.config.to_dict(), folder / "whisper" / "pytorch_model.bin", "config.json")


def _save(model: nn.Module, config: Any, weights: Path, config_name: str) -> None:
    weights.parent.mkdir()
    torch.save(model.state_dict(), weights)
    public = {name: value for name, value in dict(config).items() if not name.startswith("_") or name == "_class_name"}
    public.setdefault("_class_name", type(model).__name__)
    text = json.dumps(public, indent=2, sort_keys=True)
    (weights.parent / config_name).write_text(text + "\n", encoding="utf-8")


PRESETS = {
    "tiny": Preset(TINY_UNET, TINY_VAE, TINY_WHISPER, "student", "unet.json"),
    "student": Preset(STUDENT_UNET, SD_VAE, WHISPER_TINY, "student", "unet.json"),
    "student-taesd": Preset(STUDENT_UNET, SD_VAE, WHISPER_TINY, "student", "unet.json", TAESD_DECODER),
    "student-half-taesd": Preset(STUDENT_UNET, SD_VAE, WHISPER_TINY, "student", "unet.json", HALF_TAESD_DECODER),
    "teacher": Preset(TEACHER_UNET, SD_VAE, WHISPER_TINY, "musetalkV15", "musetalk.json"),
    "demo": Preset(DEMO_UNET, DEMO_VAE, DEMO_WHISPER, "student", "unet.json", DEMO_DECODER),
    "demo-teacher": Preset(DEMO_TEACHER_UNET, DEMO_VAE, DEMO_WHISPER, "musetalkV15", "musetalk.json"),
}
