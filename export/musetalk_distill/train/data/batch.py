"""A training batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """N frames: ``inputs [N, 2*C, S, S]`` (half-black faces, then the reference), ``tokens [N, tokens, width]``, and
    ``target [N, C, S, S]``, the true faces. FP32, latents times the scaling factor."""

    inputs: Tensor
    tokens: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)


def assemble(masked: Tensor, reference: Tensor, states: Tensor, target: Tensor) -> Batch:
    """The batch of ``[N, C, S, S]`` latents and ``[N, steps, states, width]`` windows of audio states."""
    inputs = torch.cat((masked, reference), dim=1).float()
    return Batch(inputs, states.flatten(1, 2).float(), target.float())
