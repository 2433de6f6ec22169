"""Checkpoints with random weights, for tests and benchmarks: their graphs cost what a trained model's cost."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import WhisperConfig, WhisperModel

from musetalk_runtime.errors import InvalidArgument
from musetalk_runtime.folder import written_aside

TREES = ("musetalk", "diffusers")

# E[silu(x)^2] = 0.356 for a standard normal x: what a last convolution sees after a norm and SiLU.
SILU_RMS = 0.597


@dataclass(frozen=True)
class Preset:
    """The configs of one model, and where MuseTalk's tree keeps its UNet: ``folder/unet.pth`` and ``config``."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    whisper: dict[str, Any]
    folder: str
    config: str


def init_checkpoint(preset: str | Preset, path: Path, *, tree: str = "musetalk", seed: int = 0) -> None:
    """Write a checkpoint of `preset` (one of ``PRESETS``, or its name) with random weights to the new folder `path`.

    `tree` is one of ``TREES``; the same preset and seed give the same weights in either. Weights are drawn so that
    activations keep their scale and outputs fill their range without saturating. Raises InvalidArgument if `preset`
    or `tree` is unknown, or `path` holds anything; then nothing is written.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise InvalidArgument(f"{preset!r} is no preset: expected {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    if tree not in TREES:
        raise InvalidArgument(f"{tree!r} is no tree: expected {', '.join(TREES)}")
    if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InvalidArgument(f"{path} exists: choose a new folder")
    with written_aside(path) as work:
        _write(preset, work, tree, seed)


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
        vae.quant_conv.weight.mul_(1 / vae.config.scaling_factor)
    if vae.post_quant_conv is not None:
        vae.post_quant_conv.weight.mul_(vae.config.scaling_factor)
    return vae


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


def _write(preset: Preset, folder: Path, tree: str, seed: int) -> None:
    unet, vae = random_unet(preset.unet, seed), random_vae(preset.vae, seed)
    whisper = random_whisper(preset.whisper, seed)
    if tree == "diffusers":
        for model, name in ((unet, "unet"), (vae, "vae"), (whisper, "whisper")):
            model.save_pretrained(folder / name)
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


_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"

_TEACHER_UNET = {
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 4,
    "cross_attention_dim": 384,
    "attention_head_dim": 8,  # in Stable Diffusion 1.x: the number of heads
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP],
    "layers_per_block": 2,
}
_STUDENT_UNET = {
    **_TEACHER_UNET,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [_CROSS_DOWN] * 3,
    "up_block_types": [_CROSS_UP] * 3,
    "layers_per_block": 1,
    "mid_block_type": None,
}
# Sized for a CPU: nearly all of a frame's time goes into the VAE's levels at 256x256 and the attention at 32x32.
_TINY_UNET = {
    **_STUDENT_UNET,
    "cross_attention_dim": 64,
    "attention_head_dim": 1,
    "block_out_channels": [16, 32, 64],
    "norm_num_groups": 8,
}
_SD_VAE = {
    "sample_size": 256,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
_TINY_VAE = {**_SD_VAE, "block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 8}
_WHISPER_TINY = {
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    # The decoder is there because WhisperModel has one, and as small as it can be.
    "decoder_layers": 1,
    "decoder_attention_heads": 1,
    "decoder_ffn_dim": 8,
    "max_target_positions": 8,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
_TINY_WHISPER = {
    **_WHISPER_TINY,
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
}

PRESETS = {
    "tiny": Preset(_TINY_UNET, _TINY_VAE, _TINY_WHISPER, "student", "unet.json"),
    "student": Preset(_STUDENT_UNET, _SD_VAE, _WHISPER_TINY, "student", "unet.json"),
    "teacher": Preset(_TEACHER_UNET, _SD_VAE, _WHISPER_TINY, "musetalkV15", "musetalk.json"),
}
