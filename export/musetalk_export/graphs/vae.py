"""The graphs of the VAE's encoder and decoder and of a small decoder.

They go between images in [0, 1] and latents times the VAE's scaling factor. A small decoder computes only the rows that
composition can show. The VAE's computes all: its norms and its attention look at the whole face.
"""

from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.functional import pad

from musetalk_export.graphs.blocks import simplify
from musetalk_runtime.avatar.box import hidden_rows

LATENT_LIMIT = 3.0  # AutoencoderTiny's


class DecoderGraph(nn.Module):
    """``latents [N, C, S, S]`` -> ``images [N, 3, I, I]``, RGB in [0, 1], FP32. Takes over `vae`'s decoder."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.scaling_factor = float(vae.config.scaling_factor)
        simplify(vae.decoder)
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        x = latents * (1 / self.scaling_factor)
        x = x if self.post_quant_conv is None else self.post_quant_conv(x)
        x = _middle(self.decoder.mid_block, self.decoder.conv_in(x))
        for block in self.decoder.up_blocks:
            x = _layers(block.resnets, x)
            x = x if block.upsamplers is None else block.upsamplers[0](x)
        images: Tensor = self.decoder.conv_out(self.decoder.conv_act(self.decoder.conv_norm_out(x)))
        return (images * 0.5 + 0.5).clamp(0, 1)


class TinyDecoderGraph(nn.Module):
    """``latents [N, C, S, S]`` -> ``images [N, 3, I, I]``, RGB in [0, 1], FP32: diffusers' AutoencoderTiny `tiny`.

    The first ``hidden`` rows of the images are black, and the others as if all were computed: before each upsampling
    go the rows that no convolution after it reaches from a shown row. That takes 0.7 times as long.

    Its layers make images in [0, 1] already, of latents softly held within 3. Upsampling and the convolution after it
    stay apart: on two CPU cores ONNX Runtime takes 1.2 to 1.4 times as long for one transposed convolution, and for
    one convolution to four times the channels and DepthToSpace.
    """

    def __init__(self, tiny: Any, hidden: int) -> None:
        super().__init__()
        self.scale = LATENT_LIMIT * float(tiny.config.scaling_factor)
        self.layers, self.hidden = tiny.decoder.layers, hidden
        self.cuts = _cuts(list(self.layers), hidden)

    def forward(self, latents: Tensor) -> Tensor:
        x = torch.tanh(latents * (1 / self.scale)) * LATENT_LIMIT
        for layer, cut in zip(self.layers, self.cuts[:-1], strict=True):
            x = layer(x[:, :, cut:] if cut else x)
        return pad(x.clamp(0, 1)[:, :, self.cuts[-1] :], (0, 0, self.hidden, 0), value=0.0)


class EncoderGraph(nn.Module):
    """``images [N, 3, I, I]``, RGB in [0, 1] -> ``latents [N, C, S, S]``, FP32. Takes over `vae`'s encoder.

    The latents are the mean of the distribution that MuseTalk samples: an avatar comes out the same every time.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.scaling_factor, self.channels = float(vae.config.scaling_factor), int(vae.config.latent_channels)
        simplify(vae.encoder)
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, images: Tensor) -> Tensor:
        x = self.encoder.conv_in(images * 2 - 1)
        for block in self.encoder.down_blocks:
            x = _layers(block.resnets, x)
            x = x if block.downsamplers is None else block.downsamplers[0](x)
        x = _middle(self.encoder.mid_block, x)
        x = self.encoder.conv_out(self.encoder.conv_act(self.encoder.conv_norm_out(x)))
        moments: Tensor = x if self.quant_conv is None else self.quant_conv(x)
        return moments[:, : self.channels] * self.scaling_factor


def decoder_graph(decoder: Any, image_size: int) -> nn.Module:
    """The graph of an AutoencoderTiny, or of an AutoencoderKL, which it takes over."""
    if isinstance(decoder, AutoencoderTiny):
        return TinyDecoderGraph(decoder, rows_left_out(decoder, image_size))
    return DecoderGraph(decoder)


def rows_left_out(decoder: Any, image_size: int) -> int:
    """How many rows at the top of its images the graph of `decoder` leaves black."""
    return hidden_rows(image_size) if isinstance(decoder, AutoencoderTiny) else 0


def _cuts(layers: list[nn.Module], hidden: int) -> list[int]:
    """By layer, how many rows are cut off its input so that the last one's rows from `hidden` on stay exact; and how
    many of the last one's output come before them.

    Rows are cut where few are: before an upsampling.
    """
    needed, needs = hidden, []
    for layer in reversed(layers):
        factor, reach = _factor(layer), sum(conv.kernel_size[0] // 2 for conv in _convolutions(layer))
        needed = max(0, needed - reach) // factor
        needs.append(needed)
    cuts, at = [], 0
    for layer, needed in zip(layers, reversed(needs), strict=True):
        cuts.append(needed - at if _factor(layer) > 1 else 0)
        at = (at + cuts[-1]) * _factor(layer)
    return [*cuts, hidden - at]


def _factor(layer: nn.Module) -> int:
    return int(layer.scale_factor) if isinstance(layer, nn.Upsample) else 1  # type: ignore[arg-type]


def _convolutions(layer: nn.Module) -> list[nn.Conv2d]:
    return [module for module in layer.modules() if isinstance(module, nn.Conv2d)]


def _layers(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _middle(block: Any, x: Tensor) -> Tensor:
    x = block.resnets[0](x)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = resnet(x if attention is None else attention(x))
    return x
