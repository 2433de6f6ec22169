"""Optimization steps: a task's module, its optimizer, its averaged weights and its loss means."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musetalk_distill.shards.people import write_people
from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.ema import ExponentialMovingAverage, ema_decay
from musetalk_distill.train.loss_means import LossMeans
from musetalk_distill.train.processes import Processes
from musetalk_distill.train.schedule import learning_rate
from musetalk_distill.train.state import State, write_error
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_distill.train.tasks.task import Task
from musetalk_export.write_error import WRITE_ERRORS, write_reason
from musetalk_runtime.core.errors import InputNotFound, InvalidCheckpoint, MachineError
from musetalk_runtime.storage.folder import written_aside

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BETAS, WEIGHT_DECAY = (0.9, 0.999), 0.01  # of AdamW
LOSS = "loss"


class Trainer:
    """Trains ``task.module`` on the device of `processes`. Attributes: ``average``, ``means``, ``done`` (steps)."""

    def __init__(self, task: Task, options: TrainOptions, processes: Processes) -> None:
        self.task, self.options, self.processes, self.done = task, options, processes, 0
        self.precision = options.precision or _precision(processes.device)
        _place(task, processes.device, DTYPES[self.precision])
        if options.compile:
            for module in (task.module, *(frozen.module for frozen in task.frozen)):
                module.compile()
        self._model = processes.wrap(task.module)
        self._parameters = [parameter for parameter in task.module.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=options.rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=processes.on_gpu
        )
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=self.precision == "fp16")
        self.average = ExponentialMovingAverage(task.module)
        self.means = LossMeans([LOSS, *task.weights], processes.device)

    def step(self, batch: Batch) -> None:
        """Learn from `batch`, without waiting for the device. Raises MachineError where its memory is too small."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.next_rate
        try:
            self.means.add(self.learn(batch))
        except torch.cuda.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
            raise MachineError(
                f"a batch of {self.options.batch} is too large: try a smaller --batch: {reason}"
            ) from None
        self.average.update(ema_decay(self.done, self.options.ema))
        self.done += 1

    @torch.no_grad()
    def check_given(self, batch: Batch, checkpoint: Path) -> None:
        """Raise InvalidCheckpoint unless what the models of `checkpoint` make of `batch` are finite numbers."""
        for name, made in self.task.given(batch).items():
            if not torch.isfinite(made).all():
                cure = "use --precision bf16 or fp32" if self.precision == "fp16" else "its weights are damaged"
                raise InvalidCheckpoint(
                    f"{checkpoint}: its {name} makes NaN or infinity of these shards in {self.precision}: {cure}"
                )

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def next_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.done, self.options.steps, self.options.warmup, self.options.rate)

    def autocast(self) -> AbstractContextManager[Any]:
        """What runs within it runs in the run's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, DTYPES[self.precision])

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The task's pictures of `batch`, painted with the averaged weights."""
        with torch.no_grad(), self.average.applied(), self.autocast():
            return self.task.pictures(batch)

    def save(self, run: Path, people: Iterable[str]) -> Path:
        """Write the model with the averaged weights to its folder in `run`, and the `people` it learnt from.

        Returns the folder. Raises OutputError.
        """
        folder = run / self.task.result
        try:
            with self.average.applied(), written_aside(folder) as work:
                self.task.write(work)
                write_people(work, people)
        except InputNotFound:  # the checkpoint that its VAE and Whisper are copied from
            raise
        except WRITE_ERRORS as error:
            raise write_error(f"{folder}:", write_reason(error, run)) from error
        return folder

    def state(self) -> State:
        """Where the run stands."""
        rest = {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sums": self.means.state(),
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(self.processes.device) if self.processes.on_gpu else None,
        }
        return State(self.done, self.task.module.state_dict(), self.average.weights, rest)

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.done = state.step
        self.task.module.load_state_dict(dict(state.model))
        self.average.load(dict(state.average))
        self._optimizer.load_state_dict(state.rest["optimizer"])
        self._scaler.load_state_dict(state.rest["scaler"])
        self.means.load(state.rest["sums"])
        torch.set_rng_state(state.rest["rng"])
        if self.processes.on_gpu and state.rest["gpu_rng"] is not None:
            torch.cuda.set_rng_state(state.rest["gpu_rng"], self.processes.device)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        with self.autocast():
            terms = self.task.terms(self._model, batch, self.done)
            loss = self.task.total(terms)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._parameters, self.options.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return {LOSS: loss, **terms}


def _precision(device: torch.device) -> str:
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def _place(task: Task, device: torch.device, dtype: torch.dtype) -> None:
    """Bring all modules to `device`: the frozen ones in `dtype`, and where that is short, channels last."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    for module in (task.module, *task.frozen):
        module.to(device)
        if device.type == "cuda" and dtype != torch.float32:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for frozen in task.frozen:
        frozen.lower(dtype)
