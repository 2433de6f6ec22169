"""A differentiable VAE decoder, and the part of its pictures that is the mouth."""

from typing import Any

from torch import Tensor, nn


class LatentDecoder(nn.Module):
    """``latents [N, C, S, S]``, times the scaling factor -> ``images [N, 3, I, I]``, RGB around [0, 1], not clipped.

    `vae` is an AutoencoderKL or an AutoencoderTiny, whose latents are scaled as they are.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.scaling_factor = float(vae.config.scaling_factor)
        self.post_quant_conv, self.decoder = getattr(vae, "post_quant_conv", None), vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        x = latents / self.scaling_factor
        images: Tensor = self.decoder(x if self.post_quant_conv is None else self.post_quant_conv(x))
        return images * 0.5 + 0.5


def mouth(images: Tensor) -> Tensor:
    """The lower half of ``images [N, 3, I, I]``, which holds the mouth and is what the model paints."""
    return images[:, :, images.shape[2] // 2 :]
