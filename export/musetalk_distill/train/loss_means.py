"""The means of the loss terms between two records, added up on the device so that no step waits for it."""

from typing import Any

import torch
from torch import Tensor

from musetalk_distill.train.processes import Processes
from musetalk_runtime.core.errors import AccuracyError


class LossMeans:
    """A mean for each of `names`. Each has a count of its own, since not every step has every term."""

    def __init__(self, names: list[str], device: torch.device) -> None:
        self._sums = {name: torch.zeros((), device=device) for name in names}
        self._counts = dict.fromkeys(names, 0)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the values of one step."""
        for name, value in terms.items():
            self._sums[name] += value.detach().float()
            self._counts[name] += 1

    def take(self, step: int, processes: Processes) -> dict[str, float]:
        """The means since the last call, by name. Raises AccuracyError as `check` does."""
        self.check(step)
        names = [name for name, count in self._counts.items() if count]
        values = processes.mean(torch.stack([self._sums[name] / self._counts[name] for name in names])).tolist()
        for name, total in self._sums.items():
            total.zero_()
            self._counts[name] = 0
        return dict(zip(names, values, strict=True))

    def check(self, step: int) -> None:
        """Raise AccuracyError, saying `step`, if a sum is no finite number."""
        sums = torch.stack(list(self._sums.values()))
        if not torch.isfinite(sums).all():
            found = ", ".join(f"{name} {value:g}" for name, value in zip(self._sums, sums.tolist(), strict=True))
            raise AccuracyError(
                f"the loss is no number by step {step} ({found}): use a lower --lr, or --precision bf16"
            )

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {name: [total.cpu(), self._counts[name]] for name, total in self._sums.items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, (total, count) in state.items():
            self._sums[name].copy_(total)
            self._counts[name] = count
