"""The blocks of diffusers, rewritten so that their trace holds what the model computes and no more.

diffusers' own trace to chains of Shape, Gather and Concat, divisions by one, and InstanceNormalization.
"""

from typing import Any

import torch.nn.functional as F  # noqa: N812
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention as DiffusersAttention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from musetalk_export.graphs.attention import Attention, ImageAttention
from musetalk_export.graphs.norm import GroupNorm, static


def simplify(model: nn.Module) -> None:
    """Replace diffusers' blocks inside `model`, innermost first; the weights are shared, not copied."""
    for name, child in list(model.named_children()):
        simplify(child)
        if type(child) in REPLACEMENTS:
            setattr(model, name, REPLACEMENTS[type(child)](child))


class Resnet(nn.Module):
    """A residual block over ``[N, C, H, W]`` whose time embedding, if it had one, is folded into ``conv1.bias``."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.nonlinearity = block.nonlinearity
        self.conv_shortcut = block.conv_shortcut

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.conv1(self.nonlinearity(self.norm1(x)))
        inner = self.conv2(self.nonlinearity(self.norm2(inner)))
        return inner + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of ``[N, C, H, W]``, with cross-attention to tokens ``[N, L, width]``."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = transformer.norm, transformer.proj_in, transformer.proj_out
        self.transformer_blocks = transformer.transformer_blocks
        self.linear = bool(transformer.use_linear_projection)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        channels, height, width = static(x)
        y: Tensor = self.norm(x)
        y = y if self.linear else self.proj_in(y)
        y = y.permute(0, 2, 3, 1).reshape(-1, height * width, channels)
        y = self.proj_in(y) if self.linear else y
        for block in self.transformer_blocks:
            y = block(y, tokens)
        y = self.proj_out(y) if self.linear else y
        y = y.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        y = y if self.linear else self.proj_out(y)
        return x + y


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer over ``[N, H*W, C]``, each after a norm."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn1 = block.norm1, block.attn1
        self.norm2, self.attn2 = block.norm2, block.attn2
        self.norm3, self.ff = block.norm3, block.ff

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), tokens)
        y: Tensor = x + self.ff(self.norm3(x))
        return y


class GatedLinear(nn.Module):
    """``linear(x) * gelu(gate(x))``: diffusers' GEGLU, its one product as two, so that nothing need be sliced."""

    def __init__(self, geglu: Any) -> None:
        super().__init__()
        weights = geglu.proj.weight.chunk(2)
        biases = (None, None) if geglu.proj.bias is None else geglu.proj.bias.chunk(2)
        self.linear, self.gate = (_linear(*pair) for pair in zip(weights, biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * F.gelu(self.gate(x))
        return y


class Upsample(nn.Module):
    """Twice the size, by nearest neighbour, then a convolution."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv = block.conv

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


class Downsample(nn.Module):
    """Half the size, by a convolution; without padding of its own it is padded below and on the right."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv = block.conv

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x if any(self.conv.padding) else F.pad(x, (0, 1, 0, 1)))
        return y


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
    return linear


def _attention(attention: Any) -> nn.Module:
    return Attention(attention) if attention.group_norm is None else ImageAttention(attention)


REPLACEMENTS: dict[type[nn.Module], Any] = {
    nn.GroupNorm: GroupNorm,
    ResnetBlock2D: Resnet,
    Transformer2DModel: SpatialTransformer,
    BasicTransformerBlock: TransformerBlock,
    DiffusersAttention: _attention,
    GEGLU: GatedLinear,
    Upsample2D: Upsample,
    Downsample2D: Downsample,
}
