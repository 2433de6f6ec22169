"""The VAE: faces to latents and back.

The encoder must also see faces whose lower half is black, as the UNet's input has them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from musetalk_distill.demo.fit import fit
from musetalk_distill.demo.footage import Clip

Bytes = npt.NDArray[np.uint8]

MASKED = 0.25  # of the pictures seen
EDGES, CODE = 0.5, 1e-3  # weights of the loss of gradients, and of the code's divergence from a unit normal
MEASURED = 64  # pictures that tell the scale of latents


def train_seeing(
    vae: Any, clips: Sequence[Clip], steps: int, batch: int, every: int, seed: int,
    progress: Callable[[int, float], None],
) -> None:  # fmt: skip
    """Train `vae`, an AutoencoderKL, where it is, on every `every`-th frame of `clips`; sets its scaling factor."""
    size, device = vae.config.sample_size, next(vae.parameters()).device
    faces = torch.from_numpy(np.stack([face for clip in clips for face in clip.faces(size, every)])).to(device)
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def loss(_step: int) -> Tensor:
        images = as_images(faces[torch.randint(len(faces), (batch,), generator=random)])
        images[: round(MASKED * batch), :, size // 2 :] = -1
        code = vae.encode(images).latent_dist
        divergence: Tensor = code.kl().mean() / images[0].numel()
        return picture_loss(vae.decode(code.sample()).sample, images) + CODE * divergence

    vae.train()
    fit(vae.parameters(), loss, steps, 5e-4, progress)
    vae.eval()
    with torch.inference_mode():
        latents = vae.encode(
            as_images(faces[torch.randint(len(faces), (MEASURED,), generator=random)])
        ).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


def as_images(faces: Tensor) -> Tensor:
    """RGB bytes ``[N, I, I, 3]`` as ``[N, 3, I, I]`` in [-1, 1]."""
    return faces.permute(0, 3, 1, 2).float() / 127.5 - 1


def picture_loss(found: Tensor, expected: Tensor) -> Tensor:
    """Mean absolute error of pixels, and of differences between neighbours, so that lips and teeth stay sharp."""
    edges = [l1_loss(found.diff(dim=axis), expected.diff(dim=axis)) for axis in (2, 3)]
    return l1_loss(found, expected) + EDGES * (edges[0] + edges[1])
