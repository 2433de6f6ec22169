"""What the tests of training share: a checkpoint and shards as small as can be, and what a run wrote."""

import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from helpers.paths import ROOT, TESTS
from musetalk_distill.shards.shards import ClipEntry, ClipTensors, states_count, write_shards
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_export.checkpoint.preset import PRESETS, Preset, init_checkpoint

CHILD_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(folder) for folder in (TESTS, ROOT / "export", ROOT / "runtime")),
    "OMP_NUM_THREADS": "1",
}
"""For a child process that trains: it imports this checkout's packages, and the tests' helpers."""

TEACHER_UNET = {
    **PRESETS["teacher"].unet,
    "sample_size": 8,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "norm_num_groups": 4,
}
VAE = {**PRESETS["tiny"].vae, "sample_size": 64, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
WHISPER = {**PRESETS["tiny"].whisper, "d_model": 16, "encoder_layers": 1, "encoder_ffn_dim": 16}
SMALL = Preset(TEACHER_UNET, VAE, WHISPER, "musetalkV15", "musetalk.json")


def small_checkpoint(folder: Path) -> Path:
    init_checkpoint(SMALL, folder, tree="diffusers", seed=1)
    return folder


def small_shards(folder: Path, checkpoint: Path, frames: int = 10) -> Path:
    """Two clips to train on, at 25 and 15 fps, and one to look at."""
    spec = read_checkpoint(checkpoint).spec
    random = np.random.default_rng(0)

    def clip(name: str, split: str, fps: int) -> tuple[ClipEntry, ClipTensors]:
        entry = ClipEntry(name, name, split, frames, Fraction(fps))
        face = (frames, spec.latent_channels, spec.latent_size, spec.latent_size)
        latents, masked = (random.normal(size=face).astype(np.float16) for _ in range(2))
        states = random.normal(size=(states_count(frames, entry.fps, spec), spec.audio_states, spec.audio_width))
        shown = {}
        if split == "val":
            at = np.arange(frames, dtype=np.int32)
            images = random.integers(0, 256, (frames, 3, spec.image_size, spec.image_size), dtype=np.uint8)
            shown = {"images": images, "images_at": at, "opening": random.random(frames).astype(np.float32)}
        return entry, ClipTensors(latents, masked, states.astype(np.float16), **shown)

    write_shards(folder, spec, [clip("a", "train", 25), clip("b", "train", 15), clip("c", "val", 25)])
    return folder


def options(what: str = "student", **changed) -> TrainOptions:
    small = {"steps": 12, "batch": 4, "log_every": 1, "save_every": 5, "pixel_every": 3, "pixel_frames": 2, "width": 8}
    return TrainOptions(what=what, **{**small, "lr": 3e-3, **changed})


def curve(run: Path) -> list[tuple[int, float, dict[str, float]]]:
    """Step, loss and terms of each record of a run."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"], record["terms"]) for record in records]
