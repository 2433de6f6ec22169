"""The training task that options ask for, made of a checkpoint's models."""

from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from musetalk_distill.train.tasks.decoder_task import DecoderTask
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_distill.train.tasks.student import make_student, student_config
from musetalk_distill.train.tasks.task import Task
from musetalk_distill.train.tasks.unet_task import StudentTask, TeacherTask
from musetalk_export.checkpoint.checkpoint import Checkpoint, read_checkpoint
from musetalk_runtime.core.errors import InvalidCheckpoint
from musetalk_runtime.core.model import ModelSpec


def make_task(path: Path, spec: ModelSpec, options: TrainOptions, process: int) -> Task:
    """The task of `options` on shards of `spec`, with the models of the checkpoint at `path`.

    Raises InputNotFound or InvalidCheckpoint if they cannot be used, or are not for these shards.
    """
    models = read_checkpoint(path)
    check_spec(path, models.spec, spec)
    if options.what == "decoder":
        return DecoderTask(models.unet, models.vae, spec.tokens, options, process)
    if options.what == "teacher":
        return TeacherTask(_fresh(models, options.seed), models.vae, spec.tokens, options, path)
    student, _ = make_student(
        models.unet, student_config(dict(models.unet.config), options.student_config), options.seed
    )
    return StudentTask(student, models.unet, models.vae, spec.tokens, options, path)


def check_spec(path: Path, checkpoint: ModelSpec, shards: ModelSpec) -> None:
    """Raise InvalidCheckpoint, saying what differs, unless the checkpoint at `path` and shards are of one model."""
    own, other = asdict(checkpoint), asdict(shards)
    faults = [
        f"{name} is {str(own[name])[:12]}, the shards' {str(other[name])[:12]}"
        for name in own
        if own[name] != other[name]
    ]
    if faults:
        raise InvalidCheckpoint(
            f"{path}: not the checkpoint of these shards: {'; '.join(faults)}: prepare them with it"
        )


def _fresh(models: Checkpoint, seed: int) -> UNet2DConditionModel:
    """A U-Net of the checkpoint's shape with diffusers' first weights, drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel.from_config(models.unet.config)
