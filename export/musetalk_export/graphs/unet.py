"""The UNet's graph: one step at t = 0, with the time embedding and the position code as constants."""

import math
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from musetalk_export.graphs.blocks import simplify


class UNetGraph(nn.Module):
    """``latents [N, 2*C, S, S]`` and ``tokens [N, tokens, width]`` -> ``prediction [N, C, S, S]``, FP32.

    Takes over `unet` and changes it: compute with the original before.
    """

    positions: Tensor

    def __init__(self, unet: Any, tokens: int) -> None:
        super().__init__()
        self.register_buffer("positions", position_code(tokens, unet.config.cross_attention_dim)[None])
        fold_time(unet)
        simplify(unet)
        self.unet = unet

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        tokens = tokens + self.positions
        sample = self.unet.conv_in(latents)
        skips = [sample]
        for block in self.unet.down_blocks:
            samples = _layers(block, sample, tokens)
            skips += samples
            sample = samples[-1]
            if block.downsamplers is not None:
                sample = block.downsamplers[0](sample)
                skips.append(sample)
        if self.unet.mid_block is not None:
            sample = _middle(self.unet.mid_block, sample, tokens)
        for block in self.unet.up_blocks:
            sample = _layers(block, sample, tokens, skips)[-1]
            if block.upsamplers is not None:
                sample = block.upsamplers[0](sample)
        if self.unet.conv_norm_out is not None:
            sample = self.unet.conv_act(self.unet.conv_norm_out(sample))
        prediction: Tensor = self.unet.conv_out(sample)
        return prediction


def position_code(length: int, width: int) -> Tensor:
    """MuseTalk's PositionalEncoding, ``[length, width]`` FP32: sines in even columns, cosines in odd ones.

    The wavelengths run from 2 pi to 10000 * 2 pi ("Attention Is All You Need", section 3.5).
    """
    position = torch.arange(length, dtype=torch.float32)[:, None]
    angle = position * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(length, width)


def fold_time(unet: Any) -> None:
    """Add what the time embedding gives at t = 0, one value a channel, to each residual block's first bias."""
    embedding = unet.time_embedding(unet.time_proj(torch.zeros(1)))
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D):
            shift = block.time_emb_proj(block.nonlinearity(embedding))[0]
            block.conv1.bias = nn.Parameter(block.conv1.bias + shift, requires_grad=False)
            block.time_emb_proj = None
    unet.time_proj = unet.time_embedding = None


def _layers(block: Any, sample: Tensor, tokens: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
    """The samples after each layer of `block`; on the way up each layer first takes the latest of `skips`."""
    samples = []
    attentions = getattr(block, "attentions", [None] * len(block.resnets))
    for resnet, attention in zip(block.resnets, attentions, strict=True):
        if skips is not None:
            sample = torch.cat((sample, skips.pop()), dim=1)
        sample = resnet(sample)
        if attention is not None:
            sample = attention(sample, tokens)
        samples.append(sample)
    return samples


def _middle(block: Any, sample: Tensor, tokens: Tensor) -> Tensor:
    sample = block.resnets[0](sample)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        sample = resnet(attention(sample, tokens))
    return sample
