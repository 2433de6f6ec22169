"""Golden tensors: seeded inputs, and the outputs of the original modules for them, in PyTorch and FP32.

The originals are diffusers' and transformers' own modules, not this package's graphs, so a mistake in a graph shows
as an error against them. ``golden.npz`` holds float32 arrays named ``<graph>.<tensor>``, and ``chain.images``: the
decoder's output for the UNet's prediction. The rows that a small decoder's graph leaves out are black.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from musetalk_export.checkpoint.checkpoint import Checkpoint
from musetalk_export.graphs.unet import position_code
from musetalk_export.graphs.vae import rows_left_out
from musetalk_runtime.core.errors import InvalidCheckpoint
from musetalk_runtime.core.model import HOP, SAMPLE_RATE, ModelSpec

GOLDEN_FRAMES = 8
SEED = 20_240_401

Golden = dict[str, NDArray[np.float32]]


def make_golden(checkpoint: Checkpoint) -> Golden:
    """Inputs and outputs of every graph, for 8 frames and one 30 s mel.

    Raises InvalidCheckpoint if a model gives a value that is not finite.
    """
    spec, vae = checkpoint.spec, checkpoint.vae
    generator = torch.Generator().manual_seed(SEED)
    images, mel = _images(spec, generator), _mel(spec, generator)
    masked = images.clone()
    masked[:, :, spec.image_size // 2 :] = 0
    with torch.inference_mode():
        whole = _encode(vae, images)
        latents = torch.cat((_encode(vae, masked), whole), dim=1)
        states = torch.stack(checkpoint.audio(mel, output_hidden_states=True).hidden_states, dim=2)
        tokens = _windows(states[0], spec)
        code = position_code(spec.tokens, spec.audio_width)
        prediction = checkpoint.unet(latents, 0, encoder_hidden_states=tokens + code).sample
        tensors = {
            "unet.latents": latents,
            "unet.tokens": tokens,
            "unet.prediction": prediction,
            "vae_decoder.latents": whole,
            "vae_decoder.images": _decode(checkpoint, whole),
            "vae_encoder.images": images,
            "vae_encoder.latents": whole,
            "audio_encoder.mel": mel,
            "audio_encoder.states": states,
            "chain.images": _decode(checkpoint, prediction),
        }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InvalidCheckpoint(f"{name} holds values that are not finite: the weights are damaged")
    return {name: np.ascontiguousarray(tensor.numpy(), dtype=np.float32) for name, tensor in tensors.items()}


def _encode(vae: Any, images: Tensor) -> Tensor:
    latents: Tensor = vae.encode(images * 2 - 1).latent_dist.mean * vae.config.scaling_factor
    return latents


def _decode(checkpoint: Checkpoint, latents: Tensor) -> Tensor:
    decoder = checkpoint.decoder
    images: Tensor = (decoder.decode(latents / decoder.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    images[:, :, : rows_left_out(decoder, checkpoint.spec.image_size)] = 0
    return images


def _images(spec: ModelSpec, generator: torch.Generator) -> Tensor:
    """Smooth pictures ``[8, 3, I, I]`` in [0, 1]: a vertical gradient, coarse and fine shapes."""
    size = (spec.image_size, spec.image_size)
    picture = torch.linspace(0.7, 0.3, spec.image_size)[:, None].expand(GOLDEN_FRAMES, 3, *size)
    for cells, amplitude in ((4, 0.25), (32, 0.05)):
        noise = torch.randn(GOLDEN_FRAMES, 3, cells, cells, generator=generator)
        picture = picture + amplitude * F.interpolate(noise, size=size, mode="bicubic")
    return picture.clamp(0, 1)


def _mel(spec: ModelSpec, generator: torch.Generator) -> Tensor:
    """A log-mel ``[1, mel_bins, T]`` of Whisper's range, about -1 to 1.5, louder in the low bins and in syllables."""
    frames = spec.audio_seconds * SAMPLE_RATE // HOP
    tilt = torch.linspace(0.6, -0.4, spec.mel_bins)[:, None]
    coarse = torch.randn(1, 1, max(1, spec.mel_bins // 8), frames // 12, generator=generator)
    syllables = F.interpolate(coarse, size=(spec.mel_bins, frames), mode="bilinear")[0]
    fine = torch.randn(1, spec.mel_bins, frames, generator=generator)
    return (tilt + 0.5 * syllables + 0.1 * fine).clamp(-1, 1.5)


def _windows(states: Tensor, spec: ModelSpec) -> Tensor:
    """Tokens ``[8, tokens, width]`` of windows spread over ``states [steps, states, width]``."""
    starts = torch.linspace(0, states.shape[0] - spec.window_steps, GOLDEN_FRAMES).long().tolist()
    return torch.stack([states[start : start + spec.window_steps].flatten(0, 1) for start in starts])
