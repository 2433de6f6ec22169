"""The training tasks of a U-Net: a teacher learns from the truth alone, a student from its teacher too."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.tasks.frozen import FrozenModule
from musetalk_distill.train.tasks.latent_decoder import LatentDecoder, mouth
from musetalk_distill.train.tasks.losses import absolute, relative
from musetalk_distill.train.tasks.one_step import OneStepUNet, feature_widths
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_distill.train.tasks.task import Model, Task, Terms
from musetalk_export.checkpoint.save import save_model
from musetalk_export.checkpoint.tree import find_parts


class TeacherTask(Task):
    """`unet` learns the true latents, and the mouth of what `vae` makes of them. `source` is the checkpoint's path."""

    result = "checkpoint"

    def __init__(self, unet: Any, vae: Any, tokens: int, options: TrainOptions, source: Path) -> None:
        self.module = OneStepUNet(unet.train().requires_grad_(True), tokens)
        self.decode = FrozenModule(LatentDecoder(vae))
        self.frozen = [self.decode]
        self.weights = options.weights
        self._options, self._unet, self._source = options, unet, source

    def terms(self, model: Model, batch: Batch, step: int) -> Terms:
        prediction, _ = model(batch.inputs, batch.tokens)
        terms = {"truth": absolute(prediction, batch.target)}
        return terms | self._pixels(prediction, batch.target, step)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        prediction, _ = self.module.forward(batch.inputs, batch.tokens)
        return {"truth": self.decode.eager(batch.target), self._options.what: self.decode.eager(prediction)}

    def given(self, batch: Batch) -> dict[str, Tensor]:
        return {"VAE decoder": self.decode.eager(batch.target)}

    def write(self, folder: Path) -> None:
        """Write a checkpoint in the diffusers tree: the U-Net, and copies of the source's VAE and Whisper."""
        parts = find_parts(self._source)
        save_model(self._unet, folder / "unet")
        for part, name in ((parts.vae, "vae"), (parts.audio, "whisper")):
            (folder / name).mkdir()
            for file in (part.config, *part.weights.all):
                shutil.copyfile(file, folder / name / file.name)

    def _pixels(self, prediction: Tensor, expected: Tensor, step: int) -> Terms:
        """The mouths of a few frames, now and then: decoding costs more than the U-Net does."""
        if step % self._options.pixel_every or not self.weights["pixels"]:
            return {}
        frames = slice(self._options.pixel_frames)
        with torch.no_grad():
            target = mouth(self.decode(expected[frames]))
        return {"pixels": absolute(mouth(self.decode(prediction[frames])), target)}


class StudentTask(TeacherTask):
    """`unet` learns what `teacher` makes of the same input: its latents, its features, its mouth; and the truth."""

    def __init__(self, unet: Any, teacher: Any, vae: Any, tokens: int, options: TrainOptions, source: Path) -> None:
        super().__init__(unet, vae, tokens, options, source)
        self.teacher = FrozenModule(OneStepUNet(teacher, tokens))
        self.frozen = [self.decode, self.teacher]
        self._matched = _matched(unet.config, teacher.config)
        widths = [feature_widths(teacher.config)[index] for index in self._matched]
        matched = self.weights["features"] > 0
        self.module = OneStepUNet(unet, tokens, widths if matched else None)

    def terms(self, model: Model, batch: Batch, step: int) -> Terms:
        with torch.no_grad():
            expected, shown = self.teacher(batch.inputs, batch.tokens)
        prediction, features = model(batch.inputs, batch.tokens)
        terms = {"output": absolute(prediction, expected)}
        if self.weights["truth"]:
            terms["truth"] = absolute(prediction, batch.target)
        if self.weights["features"]:
            terms["features"] = relative(features, [shown[index] for index in self._matched])
        return terms | self._pixels(prediction, expected, step)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        prediction, _ = self.teacher.eager(batch.inputs, batch.tokens)
        truth, student = super().pictures(batch).items()
        return dict([truth, ("teacher", self.decode.eager(prediction)), student])

    def given(self, batch: Batch) -> dict[str, Tensor]:
        prediction, features = self.teacher.eager(batch.inputs, batch.tokens)
        made = torch.cat([tensor.flatten() for tensor in (prediction, *features)])
        return super().given(batch) | {"U-Net": made}


def _matched(student: Any, teacher: Any) -> list[int]:
    """Which of the teacher's features each of the student's is like: those of the outermost stages."""
    own, other = len(student["block_out_channels"]), len(teacher["block_out_channels"])
    return [*range(own), *range(2 * other - own, 2 * other)]
