"""Distributed training: one process, or one for each GPU where ``accelerate launch`` or ``torchrun`` began them."""

import os
from typing import Any

import torch
from torch import nn

from musetalk_runtime.core.errors import InvalidArgument


class Processes:
    """``count`` processes train together; this one has the number ``index`` and computes on ``device``."""

    def __init__(self) -> None:
        self.count, self.index = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self._accelerator: Any = None
        if self.count > 1:
            self._accelerator = _accelerator()
            self.device: torch.device = self._accelerator.device
        else:
            self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.index == 0

    @property
    def on_gpu(self) -> bool:
        """Whether this process computes on an NVIDIA GPU."""
        return self.device.type == "cuda"

    def part(self, batch: int, together: int = 1) -> slice:
        """This process's part of a batch of frames that come `together`; InvalidArgument if it cannot be shared."""
        share, rest = divmod(batch, self.count)
        if rest or share % together:
            whom = "one process" if self.count == 1 else f"{self.count} processes"
            what = "" if together == 1 else f" in groups of {together} frames"
            raise InvalidArgument(
                f"a batch of {batch} cannot be shared by {whom}{what}: expected a multiple of {self.count * together}"
            )
        return slice(share * self.index, share * (self.index + 1))

    def wrap(self, module: nn.Module) -> Any:
        """`module`, or what averages its gradients over all processes."""
        return module if self._accelerator is None else self._accelerator.prepare_model(module)

    def any(self, value: bool) -> bool:
        """Whether `value` is true in any process: all must ask at once, and wait for each other."""
        if self._accelerator is None:
            return value
        flag = torch.tensor(int(value), device=self.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item())

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean of `tensor` over all processes."""
        return tensor if self._accelerator is None else self._accelerator.reduce(tensor, reduction="mean")

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def _accelerator() -> Any:
    from accelerate import Accelerator

    return Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
