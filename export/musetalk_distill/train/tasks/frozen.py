"""A frozen module: it runs without being trained, in low precision where the run has one."""

from typing import Any

import torch
from torch import Tensor, nn


class FrozenModule(nn.Module):
    """`module`, whose weights get no gradients; what goes through it does. Inputs are brought to its precision."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        self.dtype = torch.float32

    def lower(self, dtype: torch.dtype) -> None:
        """Keep the weights as `dtype`; buffers stay, since a position code is added in FP32."""
        for parameter in self.module.parameters():
            parameter.data = parameter.data.to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return self.module(*(tensor.to(self.dtype) for tensor in inputs))

    def eager(self, *inputs: Tensor) -> Any:
        """The same, never compiled: for batches of a size that comes once in a while."""
        with torch.autocast(inputs[0].device.type, enabled=False):
            return self.module.forward(*(tensor.to(self.dtype) for tensor in inputs))
