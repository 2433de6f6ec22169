"""The training of the VAE, on faces.

The encoder must also see faces whose lower half is black, as the UNet's input has them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from musetalk_distill.train.tasks.losses import edges, mouth_twice
from musetalk_drawn.models.drawn_clip import DrawnClip, read_faces
from musetalk_drawn.models.fit import fit

MASKED_SHARE = 0.25  # of the pictures, whose lower half is black
KL_WEIGHT = 1e-3  # of the latents' divergence from a unit normal distribution
LEARNING_RATE = 5e-4
SCALE_PICTURES = 64  # that the scale of latents is measured on


def train_vae(
    vae: Any, clips: Sequence[DrawnClip], steps: int, batch: int, every: int, seed: int,
    progress: Callable[[int, float], None],
) -> None:  # fmt: skip
    """Train `vae`, an AutoencoderKL, where it is, on every `every`-th frame of `clips`; sets its scaling factor."""
    size, device = vae.config.sample_size, next(vae.parameters()).device
    faces = torch.from_numpy(read_faces(clips, size, every)).to(device)
    vae.to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def loss(_step: int) -> Tensor:
        images = as_images(faces[torch.randint(len(faces), (batch,), generator=random)])
        images[: round(MASKED_SHARE * batch), :, size // 2 :] = -1
        code = vae.encode(images).latent_dist
        divergence: Tensor = code.kl().mean() / images[0].numel()
        found = vae.decode(code.sample()).sample
        return mouth_twice(found, images) + edges(found, images) + KL_WEIGHT * divergence

    vae.train()
    fit(vae.parameters(), loss, steps, LEARNING_RATE, progress)
    vae.eval()
    with torch.inference_mode():
        latents = vae.encode(
            as_images(faces[torch.randint(len(faces), (SCALE_PICTURES,), generator=random)])
        ).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


def as_images(faces: Tensor) -> Tensor:
    """RGB bytes ``[N, I, I, 3]`` as ``[N, 3, I, I]`` in [-1, 1]."""
    return faces.permute(0, 3, 1, 2).float() / 127.5 - 1
