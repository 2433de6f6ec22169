"""The training of the audio encoder, whose states tell the shape of the mouth.

It has Whisper's shape and is trained to tell opening, width and rounding of the mouth from the sound, by a linear layer
on every hidden state; the UNet then gets those states as its tokens. What Whisper learns from transcripts, of all
languages, this learns from one synthesizer's phonemes: enough for drawn faces, and no more.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from musetalk_drawn.models.drawn_clip import SHAPES, DrawnClip
from musetalk_drawn.models.fit import fit
from musetalk_runtime.audio.mel import RANGE, SILENCE, log_mel_energies
from musetalk_runtime.core.model import HOP, SAMPLE_RATE, STEP

MIN_GAIN = 0.1  # of a training segment
LEARNING_RATE = 1e-3


class Track:
    """All clips one after another, on `device`: sound, and the shape of the mouth at each state (50 a second).

    Attributes: ``logs`` ``[bins, 2 * states]``, logarithms of the mel energies; ``mouth`` ``[states, 3]``.
    """

    def __init__(self, clips: Sequence[DrawnClip], bins: int, device: torch.device) -> None:
        sounds, mouths = [], []
        for clip in clips:
            samples = clip.speech()
            states = len(samples) // STEP
            sounds.append(log_mel_energies(samples[: states * STEP], bins))
            mouths.append(clip.mouth((np.arange(states) + 0.5) * STEP / SAMPLE_RATE))
        self.logs = torch.from_numpy(np.concatenate(sounds, axis=1)).to(device)
        self.mouth = torch.from_numpy(np.concatenate(mouths)).to(device)

    def segment(self, states: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Log-mel ``[bins, 2 * states]`` and mouth ``[states, 3]`` from a random place, at a random loudness.

        A gain adds its logarithm to every energy above the floor.
        """
        at = (torch.arange(states, device=self.mouth.device) + int(random.integers(len(self.mouth)))) % len(self.mouth)
        hops = STEP // HOP
        frames = (at[:, None] * hops + torch.arange(hops, device=at.device)).flatten()
        louder = 2 * math.log10(random.uniform(MIN_GAIN, 1.0))
        logs = (self.logs[:, frames] + louder).clamp_min(float(SILENCE))
        return (torch.maximum(logs, logs.max() - RANGE) + 4) / 4, self.mouth[at]


def train_audio_encoder(
    encoder: Any, clips: Sequence[DrawnClip], steps: int, batch: int, seed: int, progress: Callable[[int, float], None]
) -> None:
    """Train `encoder`, a WhisperEncoder, where it is, on segments of its full length from `clips`."""
    config, device = encoder.config, next(encoder.parameters()).device
    track, random = Track(clips, config.num_mel_bins, device), np.random.default_rng(seed)
    torch.manual_seed(seed)
    heads = nn.ModuleList(nn.Linear(config.d_model, len(SHAPES)) for _ in range(config.encoder_layers + 1)).to(device)

    def loss(_step: int) -> Tensor:
        pairs = [track.segment(config.max_source_positions, random) for _ in range(batch)]
        mel, mouth = (torch.stack(part) for part in zip(*pairs, strict=True))
        states = encoder(mel, output_hidden_states=True).hidden_states
        losses = [mse_loss(head(state), mouth) for head, state in zip(heads, states, strict=True)]
        return torch.stack(losses).mean()

    encoder.train()
    trained = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    fit(trained, loss, steps, LEARNING_RATE, progress)
    encoder.eval()
