"""The exponential moving average of a model's weights, in FP32, and its decay."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialMovingAverage:
    """An exponential moving average of the parameters of `module`; ``weights`` holds it by name."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Keep the share `decay` of the average and take the rest from the parameters as they are."""
        current: list[Tensor | nn.Parameter] = [parameter.detach() for parameter in self._module.parameters()]
        average: list[Tensor | nn.Parameter] = list(self.weights.values())
        get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]
            average, current, 0
        )

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over an average saved before."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Within the block the module has the average for its parameters."""
        kept = {name: parameter.detach().clone() for name, parameter in self._module.named_parameters()}
        self._set(self.weights)
        try:
            yield
        finally:
            self._set(kept)

    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._module.named_parameters():
            parameter.copy_(weights[name])


def ema_decay(step: int, highest: float) -> float:
    """How much of the average stays at step `step`: little at first, so that it forgets the first weights."""
    return min(highest, (1 + step) / (10 + step))
