"""Gradient descent, as all of the demo's encoders need it."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

WARM_UP = 0.03  # of all steps
CLIP = 1.0


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    progress: Callable[[int, float], None],
) -> None:
    """Minimise ``loss(step)`` by AdamW, the rate rising linearly and falling along a cosine; tells every 50th loss."""
    tensors = list(parameters)
    optimizer = torch.optim.AdamW(tensors, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * share(step, steps)
        value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(tensors, CLIP)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            progress(step, value.item())


def share(step: int, steps: int) -> float:
    """Of the full rate, in (0, 1]."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
