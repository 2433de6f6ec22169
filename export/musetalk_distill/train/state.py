"""The training state on disk: one folder for each checkpoint of a run, of which the last two are kept."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from musetalk_export.write_error import WRITE_ERRORS, write_reason
from musetalk_runtime.core.errors import InputNotFound, InvalidFolder, OutputError
from musetalk_runtime.storage.folder import new_folder, read_folder

log = logging.getLogger(__name__)

STATE_KIND, STATE_SCHEMA = "training state", 1
MAX_CHECKPOINTS = 2  # that are kept of a run
FOLDER = "checkpoints"
NAME = "step-{:09}"


@dataclass
class State:
    """All that the next step depends on.

    ``step`` steps are done. ``model`` and ``average`` are tensors by name; ``rest`` is what else has tensors
    (optimizer, scaler, random numbers, loss sums), as ``torch.load(weights_only=True)`` takes it.
    """

    step: int
    model: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    rest: dict[str, Any]


def save_state(run: Path, state: State, config: str) -> None:
    """Write `state` into the folder `run`, with the hash of the run's config, and drop all but the last two states.

    Raises OutputError if that fails, as on a full disk; the checkpoints before it are as they were.
    """
    folder = run / FOLDER / NAME.format(state.step)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder, STATE_KIND, STATE_SCHEMA) as (work, manifest):
            manifest.update(step=state.step, config=config)
            save_file({name: _whole(tensor) for name, tensor in state.model.items()}, work / "model.safetensors")
            save_file({name: _whole(tensor) for name, tensor in state.average.items()}, work / "ema.safetensors")
            torch.save(state.rest, work / "rest.pt")
    except WRITE_ERRORS as error:
        what = f"{folder}: the checkpoint of step {state.step}"
        raise write_error(what, f"{write_reason(error, run)}: older ones are whole") from error
    for old in _folders(run)[:-MAX_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def newest_state(run: Path, config: str) -> State | None:
    """The newest whole checkpoint of `run` that was made with this config, or None; damaged ones are reported.

    What a killed process left half written is removed.
    """
    for left in (run / FOLDER).glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)
    for folder in reversed(_folders(run)):
        try:
            manifest = read_folder(folder, STATE_KIND, STATE_SCHEMA)
        except (InputNotFound, InvalidFolder) as error:
            log.warning("%s; trying the checkpoint before it", error)
            continue
        if manifest["config"] == config:
            return _read(folder, manifest["step"])
        log.warning("%s: made with other options: trying the checkpoint before it", folder)
    return None


def write_error(what: str, reason: object) -> OutputError:
    """The error for a file of a run that cannot be written; it says how to go on."""
    return OutputError(f"{what} cannot be written: {reason}: make room, then go on with --resume")


def _read(folder: Path, step: int) -> State:
    model, average = (load_file(folder / f"{name}.safetensors") for name in ("model", "ema"))
    return State(step, model, average, torch.load(folder / "rest.pt", map_location="cpu", weights_only=True))


def _folders(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*"))


def _whole(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous()
