"""The optimization loop of the demo's encoders."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from musetalk_distill.train.schedule import learning_rate

WARMUP_SHARE = 0.03  # of all steps
MAX_GRADIENT_NORM = 1.0
REPORT_EVERY = 50  # steps


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
            group["lr"] = learning_rate(step, steps, round(WARMUP_SHARE * steps), rate)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(tensors, MAX_GRADIENT_NORM)
        optimizer.step()
        if step % REPORT_EVERY == 0 or step == steps - 1:
            progress(step, value.item())
