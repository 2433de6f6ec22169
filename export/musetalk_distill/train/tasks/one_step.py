"""A U-Net as MuseTalk uses it: one step at t = 0, with the features of its blocks."""

from typing import Any

import torch
from torch import Tensor, nn

from musetalk_export.graphs.unet import position_code

Features = list[Tensor]


class OneStepUNet(nn.Module):
    """``inputs [N, 2*C, S, S]`` and ``tokens [N, tokens, width]`` -> the prediction ``[N, C, S, S]`` and features.

    Features are one ``[N, width, s, s]`` a block: on the way down before its downsampling, on the way up after its
    upsampling. Those of the way down come first, from the outermost in, and then those of the way up, to the outermost.
    MuseTalk's position code is added to the tokens here. With `widths` (of as many blocks) features of other widths
    are projected to them by 1x1 convolutions, as hidden states are matched in Kim et al., "BK-SDM" (2023), section 3.
    """

    positions: Tensor

    def __init__(self, unet: Any, tokens: int, widths: list[int] | None = None) -> None:
        super().__init__()
        self.unet = unet
        code = position_code(tokens, unet.config.cross_attention_dim)[None]
        self.register_buffer("positions", code, persistent=False)
        self.projections = nn.ModuleList(
            nn.Identity() if own == other else nn.Conv2d(own, other, 1)
            for own, other in zip(feature_widths(unet.config), widths or [], strict=widths is not None)
        )

    def forward(self, inputs: Tensor, tokens: Tensor) -> tuple[Tensor, Features]:
        unet, tokens = self.unet, (tokens + self.positions).to(inputs.dtype)
        time = unet.time_embedding(unet.time_proj(torch.zeros(1, device=inputs.device)).to(inputs.dtype))
        sample = unet.conv_in(inputs)
        skips, features = [sample], []
        for block in unet.down_blocks:
            sample, made = _run(block, sample, time, tokens)
            skips += made
            features.append(made[len(block.resnets) - 1])
        if unet.mid_block is not None:
            sample = unet.mid_block(sample, time, encoder_hidden_states=tokens)
        for block in unet.up_blocks:
            taken = len(block.resnets)
            sample = _run(block, sample, time, tokens, res_hidden_states_tuple=tuple(skips[-taken:]))
            del skips[-taken:]
            features.append(sample)
        if unet.conv_norm_out is not None:
            sample = unet.conv_act(unet.conv_norm_out(sample))
        return unet.conv_out(sample), self._project(features)

    def _project(self, features: Features) -> Features:
        if not len(self.projections):
            return features
        return [project(feature) for project, feature in zip(self.projections, features, strict=True)]


def feature_widths(config: Any) -> list[int]:
    """Channels of each feature of a U-Net with this config."""
    widths = list(config["block_out_channels"])
    return [*widths, *reversed(widths)]


def _run(block: Any, sample: Tensor, time: Tensor, tokens: Tensor, **skips: Any) -> Any:
    if getattr(block, "has_cross_attention", False):
        return block(sample, temb=time, encoder_hidden_states=tokens, **skips)
    return block(sample, temb=time, **skips)
