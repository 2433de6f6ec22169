"""The audio encoder: log-mel to states in which the shape of the mouth can be read.

It has Whisper's shape and is trained to tell opening, width and rounding of the mouth from the sound, by a linear layer
on every hidden state; the UNet then gets those states as its tokens. What Whisper learns from transcripts, of all
languages, this learns from one voice maker's phonemes: enough for drawn faces, and no more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from musetalk_distill.demo.fit import fit
from musetalk_distill.demo.footage import SHAPES, Clip
from musetalk_runtime.audio.mel import log_mel
from musetalk_runtime.model import SAMPLE_RATE, STEP

Floats = npt.NDArray[np.float32]

QUIETEST = 0.1  # gain


class Track:
    """All clips one after another: sound, and the shape of the mouth at each state (50 a second)."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        sounds, mouths = [], []
        for clip in clips:
            samples = clip.speech()
            states = len(samples) // STEP
            sounds.append(samples[: states * STEP])
            mouths.append(clip.mouth((np.arange(states) + 0.5) * STEP / SAMPLE_RATE))
        self.samples = np.concatenate(sounds)
        self.mouth = np.concatenate(mouths)

    def segment(self, states: int, bins: int, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Log-mel ``[bins, 2 * states]`` and mouth ``[states, 3]`` from a random place, at a random loudness."""
        at = np.arange(states) + random.integers(len(self.mouth))
        samples = np.take(self.samples.reshape(-1, STEP), at, axis=0, mode="wrap").reshape(-1)
        mel = log_mel(samples * np.float32(random.uniform(QUIETEST, 1.0)), bins)
        return mel, np.take(self.mouth, at, axis=0, mode="wrap")


def train_hearing(
    encoder: Any, clips: Sequence[Clip], steps: int, batch: int, seed: int, progress: Callable[[int, float], None]
) -> None:
    """Train `encoder`, a WhisperEncoder, where it is, on segments of its full length from `clips`."""
    config, device = encoder.config, next(encoder.parameters()).device
    track, random = Track(clips), np.random.default_rng(seed)
    torch.manual_seed(seed)
    heads = nn.ModuleList(nn.Linear(config.d_model, len(SHAPES)) for _ in range(config.encoder_layers + 1)).to(device)

    def loss(_step: int) -> Tensor:
        pairs = [track.segment(config.max_source_positions, config.num_mel_bins, random) for _ in range(batch)]
        mel, mouth = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*pairs, strict=True))
        states = encoder(mel, output_hidden_states=True).hidden_states
        losses = [mse_loss(head(state), mouth) for head, state in zip(heads, states, strict=True)]
        return torch.stack(losses).mean()

    encoder.train()
    fit([p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad], loss, steps, 1e-3, progress)
    encoder.eval()
