"""The training task of a small decoder, which learns what the big VAE decoder makes of the same latents.

It learns shapes on quarters of pictures, which teach as much as whole ones for a quarter of the work. Colours it learns
on whole ones at the end: the big decoder's group norms and attention see all there is, and of a part it makes others.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.data.sampler import noise_seed
from musetalk_distill.train.tasks.frozen import FrozenModule
from musetalk_distill.train.tasks.latent_decoder import LatentDecoder
from musetalk_distill.train.tasks.losses import EncoderFeatures, edges, mouth_twice, relative, temporal
from musetalk_distill.train.tasks.one_step import OneStepUNet
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_distill.train.tasks.task import Model, Task, Terms
from musetalk_export.checkpoint.save import save_model

QUARTERS_SHARE = 0.7  # of the steps, which see quarters of pictures


class DecoderTask(Task):
    """The decoder of an AutoencoderTiny (TAESD's, as diffusers keeps it) of ``options.width`` channels."""

    result = "decoder"

    def __init__(self, unet: Any, vae: Any, tokens: int, options: TrainOptions, process: int = 0) -> None:
        self._tiny = make_decoder(vae.config, options.width, options.seed)
        self.module = LatentDecoder(self._tiny)
        self.decode, self._unet = FrozenModule(LatentDecoder(vae)), FrozenModule(OneStepUNet(unet, tokens))
        self._encoder = FrozenModule(EncoderFeatures(vae.encoder))
        self.frozen = [self.decode, self._encoder, self._unet]
        self.weights = options.weights
        self._together = 2 if options.pairs else 1
        self._options, self._process = options, process

    def terms(self, model: Model, batch: Batch, step: int) -> Terms:
        with torch.no_grad():
            seed = noise_seed(self._options.seed, step, self._process)
            latents = self._latents(batch, seed)
            if step < QUARTERS_SHARE * self._options.steps:
                latents = _quarter(latents, seed)
            expected = self.decode(latents).clamp(0, 1).float()
        images = model(latents)
        terms = {"pixels": mouth_twice(images, expected), "edges": edges(images, expected)}
        if self.weights["temporal"]:
            terms["temporal"] = temporal(images, expected)
        if self.weights["features"]:
            with torch.no_grad():
                shown = self._encoder(expected)
            terms["features"] = relative(self._encoder(images), shown)
        return terms

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {"VAE decoder": self.decode.eager(batch.target), "small decoder": self.module.forward(batch.target)}

    def given(self, batch: Batch) -> dict[str, Tensor]:
        prediction, _ = self._unet.eager(batch.inputs, batch.tokens)
        return {"VAE decoder": self.decode.eager(batch.target), "U-Net": prediction}

    def write(self, folder: Path) -> None:
        save_model(self._tiny, folder)  # config.json and safetensors

    def _latents(self, batch: Batch, seed: int) -> Tensor:
        """Predictions for a part of the batch, true latents for the rest, all with noise: a pair has the same."""
        options, count = self._options, len(batch) // self._together
        predicted = round(count * options.predictions) * self._together
        latents = batch.target
        if predicted:
            prediction, _ = self._unet(batch.inputs[:predicted], batch.tokens[:predicted])
            latents = torch.cat((prediction.float(), latents[predicted:]))
        generator = torch.Generator(latents.device).manual_seed(seed)
        noise = torch.randn(count, *latents.shape[1:], generator=generator, device=latents.device)
        deviation = torch.rand(count, 1, 1, 1, generator=generator, device=latents.device) * options.noise
        return latents + (noise * deviation).repeat_interleave(self._together, dim=0)


def _quarter(latents: Tensor, seed: int) -> Tensor:
    """The same half of the height and width of all `latents`, somewhere."""
    side = latents.shape[2] // 2
    y, x = np.random.default_rng(seed).integers(side + 1, size=2)
    return latents[:, :, y : y + side, x : x + side]


def make_decoder(vae: Any, width: int, seed: int) -> Any:
    """An AutoencoderTiny for the latents of a VAE with the config `vae`; its encoder is as small as can be, and unused.

    Its latents are scaled ones: that is what its ``scaling_factor`` of 1 says.
    """
    levels = len(vae.block_out_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderTiny(
            latent_channels=vae.latent_channels,
            decoder_block_out_channels=(width,) * levels,
            num_decoder_blocks=(*(3,) * (levels - 1), 1),
            encoder_block_out_channels=(8,) * levels,
            num_encoder_blocks=(1,) * levels,
            scaling_factor=1.0,
        )
