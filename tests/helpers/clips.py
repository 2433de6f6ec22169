"""Training videos and clips made on the spot."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from helpers.media import moving_picture, voice
from musetalk_distill.shards.clip import ClipEntry, ClipTensors, states_count
from musetalk_runtime.core.model import ModelSpec

BOX = [200, 60, 340, 220]  # leaves the frame of moving_picture on the right
SPEC = ModelSpec(32, 4, 4, 0.2, 80, 3, 8, 30, 10, 4, "0" * 64)  # sizes that keep clips small


def write_talk(
    file: Path,
    frames: int | Sequence[np.ndarray] = 30,
    fps: int = 25,
    samples: np.ndarray | None = None,
    delay: float = 0.0,
    **notes: Any,
) -> Path:
    """A video with sound, 16-bit mono at 16 kHz in a .mkv and AAC elsewhere, and its JSON file if there are `notes`.

    `frames` are pictures, or how many of moving_picture; the sound begins `delay` seconds after the picture.
    """
    pictures = [moving_picture(k) for k in range(frames)] if isinstance(frames, int) else frames
    samples = voice(len(pictures) / fps) if samples is None else samples
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "ultrafast"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le" if file.suffix == ".mkv" else "aac", rate=16_000, layout="mono")
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = 1 / Fraction(fps)
            frame.pts = k + round(max(0, -delay) * fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(samples), 1024):
            chunk = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
            chunk.sample_rate, chunk.time_base = 16_000, Fraction(1, 16_000)
            chunk.pts = start + round(max(0, delay) * 16_000)
            container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))
    if notes:
        file.with_suffix(".json").write_text(json.dumps(notes))
    return file


def make_clip(name: str, split: str = "train", frames: int = 5, seed: int = 0) -> tuple[ClipEntry, ClipTensors]:
    """A clip of noise at 25 fps, with two images if it is for validation, and with the mouth's opening."""
    random = np.random.default_rng(seed)

    def noise(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float16)

    face = (frames, SPEC.latent_channels, SPEC.latent_size, SPEC.latent_size)
    states = states_count(frames, Fraction(25), SPEC)
    tensors = ClipTensors(
        noise(*face),
        noise(*face),
        noise(states, SPEC.audio_states, SPEC.audio_width),
        random.integers(0, 256, (2, 3, SPEC.image_size, SPEC.image_size), np.uint8) if split == "val" else None,
        np.array([0, frames - 1], np.int32) if split == "val" else None,
        random.uniform(size=frames).astype(np.float32),
    )
    return ClipEntry(name, f"speaker of {name}", split, frames, Fraction(25)), tensors
