"""Gradient descent, as all of the demo's encoders need it."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from musetalk_distill.train.schedule import learning_rate

WARM_UP = 0.03  # of all steps
CLIP = 1.0
EVERY = 50  # steps of which one is told


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    progress: Callable[[int, float], None],
) -> None:
    """Minimise ``loss(step)`` by AdamW, in bfloat16 on a GPU; the rate rises linearly and falls along a cosine."""
    tensors = list(parameters)
    device = tensors[0].device.type
    optimizer = torch.optim.AdamW(tensors, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2, fused=device == "cuda")
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, round(WARM_UP * steps), rate)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(tensors, CLIP)
        optimizer.step()
        if step % EVERY == 0 or step == steps - 1:
            progress(step, value.item())
