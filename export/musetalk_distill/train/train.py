"""A training run, from shards and a checkpoint to a model."""

import json
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from musetalk_distill.shards.people import people_of, read_people
from musetalk_distill.shards.shards import Shards
from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.data.batch_loader import BatchLoader, open_batch_loader
from musetalk_distill.train.data.dataset import FrameDataset
from musetalk_distill.train.image_grid import grid_batch, write_image_grid
from musetalk_distill.train.processes import Processes
from musetalk_distill.train.state import FOLDER, newest_state, save_state
from musetalk_distill.train.stop_signals import StopSignals
from musetalk_distill.train.tasks.factory import make_task
from musetalk_distill.train.tasks.options import EXTENDABLE, TrainOptions, config_hash
from musetalk_distill.train.trainer import LOSS, Trainer
from musetalk_distill.train.training_log import TrainingLog
from musetalk_export.checkpoint.checkpoint import count
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.storage.folder import MANIFEST, sha256
from musetalk_runtime.storage.output_file import write_output

log = logging.getLogger(__name__)

CONFIG = "run.json"


def train(shards: Path, run: Path, checkpoint: Path, options: TrainOptions, resume: bool = False) -> dict[str, Any]:
    """Train as `options` say on the split "train" of `shards`, into the folder `run`; returns a summary.

    The checkpoint at `checkpoint` gives the VAE, and the teacher, the shape of the teacher to train, or the U-Net whose
    predictions a decoder sees. With `resume` the run goes on from its newest whole checkpoint, or begins. With more
    steps than it was begun with, the learning rate goes on as in a run of so many.

    Raises InputNotFound, InvalidFolder, InvalidCheckpoint or InvalidArgument for what was given, of which a checkpoint
    whose models make NaN or infinity is one; then `run` is as it was. Raises OutputError where `run` cannot be written,
    MachineError if memory is too small, and AccuracyError when the loss is no number. SIGINT and SIGTERM raise
    KeyboardInterrupt and Terminated once the step in hand is in a checkpoint.
    """
    processes = Processes()
    part = processes.part(options.batch, 2 if options.pairs else 1)
    data = Shards.open(shards)
    dataset = FrameDataset(data, "train", options.seed, options.pairs)
    task = make_task(checkpoint, data.spec, options, processes.index)
    trainer = Trainer(task, options, processes)
    shown = grid_batch(FrameDataset(data, "val" if data.clips("val") else "train", 0), processes.device)
    trainer.check_given(shown, checkpoint)
    config = replace(options, precision=trainer.precision).to_json(sha256(shards / MANIFEST), checkpoint)
    steps_before = _claim(run, config, resume, processes)
    state = newest_state(run, config_hash(config)) if resume else None
    if state is not None:
        if state.step > options.steps:
            raise InvalidArgument(f"{run} has made {state.step} steps already: give --steps {state.step} or more")
        trainer.load(state)
        log.info("going on after step %d", state.step)
        if options.steps != steps_before:
            log.info(
                "%d steps instead of %s: the learning rate goes on from %.3g, as in a run of so many; it was %.3g",
                options.steps, steps_before, trainer.next_rate, trainer.rate,
            )  # fmt: skip
    people = people_of(dataset.clips) | read_people(checkpoint)
    with ExitStack() as stack:
        batches = open_batch_loader(dataset, options.batch, processes.device, trainer.done, part, None)
        stack.callback(batches.close)
        loop = _Loop(trainer, run, config_hash(config), shown, people, stack)
        loop.run(batches)
    return loop.summary()


class _Loop:
    """Steps with all that is written between them; only the main process writes."""

    def __init__(
        self, trainer: Trainer, run: Path, config: str, shown: Batch, people: set[str], stack: ExitStack
    ) -> None:
        self._trainer, self._run, self._config, self._grid = trainer, run, config, shown
        self._people = people
        self._options, self._processes = trainer.options, trainer.processes
        self._signals = stack.enter_context(StopSignals())
        self._log = None
        if self._processes.main:
            self._log = stack.enter_context(TrainingLog(run, trainer.done, self._options.steps))

    def run(self, batches: BatchLoader) -> None:
        options, trainer = self._options, self._trainer
        while trainer.done < options.steps:
            trainer.step(batches.batch(trainer.done))
            recorded = trainer.done % options.log_every == 0 or trainer.done == options.steps
            if recorded:
                self._record()
            # Several processes must agree to stop, and so ask each other only when they wait anyway.
            asks = recorded or self._processes.count == 1
            stopped = asks and self._processes.any(self._signals.received is not None)
            if stopped or trainer.done % options.save_every == 0 or trainer.done == options.steps:
                self._save(grid=not stopped)
            if stopped:
                self._signals.end()
        if self._processes.main:
            trainer.save(self._run, self._people)
        self._processes.wait()

    def summary(self) -> dict[str, Any]:
        if self._log is None:
            return {}
        records = self._log.records
        return {
            "run": str(self._run),
            "what": self._options.what,
            "steps": self._trainer.done,
            "precision": self._trainer.precision,
            "parameters": count(self._trainer.task.module),
            "first_loss": records[0]["loss"],
            "last_loss": records[-1]["loss"],
            "samples_per_s": records[-1]["samples_per_s"],
            "result": str(self._run / self._trainer.task.result),
        }

    def _record(self) -> None:
        trainer = self._trainer
        means = trainer.means.take(trainer.done, self._processes)
        if self._log:
            self._log.record(trainer.done, means.pop(LOSS), means, trainer.rate, self._options.batch)

    def _save(self, grid: bool) -> None:
        trainer = self._trainer
        trainer.means.check(trainer.done)
        if self._log:
            if grid:
                write_image_grid(self._run / "sheets" / f"step-{trainer.done:09}.png", trainer.pictures(self._grid))
            save_state(self._run, trainer.state(), self._config)
            self._log.pause()
        self._processes.wait()


def _claim(run: Path, config: dict[str, Any], resume: bool, processes: Processes) -> Any:
    """Make `run` this run's folder, and give the steps it was to have before.

    Raises InvalidArgument if it is another's, naming what differs.
    """
    file = run / CONFIG
    if processes.main and not file.is_file():
        if (run / FOLDER).exists() or (run.exists() and not run.is_dir()):
            raise InvalidArgument(f"{run} exists and is no run of distill-student train: choose another folder")
        _write_config(file, config)
    processes.wait()
    found = json.loads(file.read_text(encoding="utf-8"))
    differing = [name for name, value in config.items() if found.get(name) != value]
    other = [f"{name} {found.get(name)!r}" for name in differing if name != EXTENDABLE]
    if other and resume:
        raise InvalidArgument(f"{run} was begun with {', '.join(other)}: give the same to --resume it")
    if not resume and any((run / FOLDER).glob("step-*")):
        raise InvalidArgument(f"{run} holds a run: go on with --resume, or choose another folder")
    if differing and processes.main:
        _write_config(file, config)
    return found.get(EXTENDABLE)


def _write_config(file: Path, config: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror}") from error
    write_output(file, json.dumps(config, indent=1) + "\n")
