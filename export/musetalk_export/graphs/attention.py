"""The attention layers of the UNet, the VAE and Whisper, with a constant scale and constant shapes."""

from typing import Any

import torch
from torch import Tensor, nn

from musetalk_export.graphs.norm import static


class Attention(nn.Module):
    """diffusers' attention over ``[N, L, C]``, of the tokens to themselves or to `context` ``[N, L', C']``."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]
        self.heads, self.scale = int(attention.heads), float(attention.scale)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        length, others = static(x)[0], static(context)[0]
        query = split_heads(self.to_q(x) * self.scale, self.heads, length)
        key = split_heads(self.to_k(context), self.heads, others)
        value = split_heads(self.to_v(context), self.heads, others)
        joined: Tensor = self.to_out(attend(query, key, value).reshape(-1, length, self.to_q.out_features))
        return joined


class ImageAttention(Attention):
    """The VAE's attention over the pixels of ``[N, C, H, W]``, with its norm and its residual."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        self.group_norm = attention.group_norm

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        channels, height, width = static(x)
        pixels = self.group_norm(x).reshape(-1, channels, height * width).permute(0, 2, 1)
        return x + super().forward(pixels, context).permute(0, 2, 1).reshape(-1, channels, height, width)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query key^T) value`` of ``[N, heads, L, d]``, as ``[N, L, heads, d]``; `query` is scaled already."""
    weights = torch.softmax(query @ key.transpose(-1, -2), dim=-1)
    return (weights @ value).permute(0, 2, 1, 3)


def split_heads(x: Tensor, heads: int, length: int | None) -> Tensor:
    """``[N, L, heads * d]`` as ``[N, heads, L, d]``; `length` is L, or None if L varies as the batch does."""
    size = int(x.shape[-1]) // heads
    lead = (x.shape[0], -1) if length is None else (-1, length)
    return x.reshape(*lead, heads, size).permute(0, 2, 1, 3)
