"""A training task: the part of a run that differs between student, teacher and decoder."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.tasks.frozen import FrozenModule

Model = Callable[..., Any]  # the task's module, or what wraps it to train on several GPUs
Terms = dict[str, Tensor]


class Task(ABC):
    """``module`` is trained, all modules of ``frozen`` only run. Loss terms are scalars by the names of ``weights``.

    ``result`` is the name of the folder that a run leaves its model in.
    """

    module: nn.Module
    frozen: list[FrozenModule]
    weights: dict[str, float]
    result: str

    @abstractmethod
    def terms(self, model: Model, batch: Batch, step: int) -> Terms:
        """The loss terms of `batch`, each before its weight. `model` is ``module`` or wraps it."""

    @abstractmethod
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Rows of pictures to compare, ``[N, 3, I, I]`` in about [0, 1] by name, from the module as it is."""

    @abstractmethod
    def given(self, batch: Batch) -> dict[str, Tensor]:
        """What the frozen models make of `batch`, by the model's name: what the module learns from."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the module as it is into the empty `folder`, as a model that can be exported.

        Raises OSError, RuntimeError or SafetensorError.
        """

    def total(self, terms: Terms) -> Tensor:
        """The weighted sum of `terms`."""
        parts = [self.weights[name] * value for name, value in terms.items()]
        return sum(parts[1:], start=parts[0])
