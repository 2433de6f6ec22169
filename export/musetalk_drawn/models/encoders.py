"""A checkpoint whose Whisper hears and whose VAE sees drawn people; its UNet is still to be trained."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers.models.whisper.modeling_whisper import sinusoids

from musetalk_drawn.models.audio_encoder import train_hearing
from musetalk_drawn.models.footage import read_clips
from musetalk_drawn.models.vae import train_seeing
from musetalk_export.checkpoint.preset import PRESETS, random_unet, random_vae, random_whisper
from musetalk_runtime.storage.folder import written_aside

Progress = Callable[[str, int, float], None]  # what is trained, step, loss

HEARING_BATCH, SEEING_BATCH = 16, 16
EVERY = 5  # frames, of which one is seen


def train_encoders(
    videos: Path, output: Path, preset: str, hearing: int, seeing: int, seed: int, progress: Progress
) -> None:
    """Train the Whisper and the VAE of `preset` on the drawn clips in `videos`, so many steps each, into `output`.

    `output` becomes a diffusers tree, with a random UNet. Uses the GPU if there is one. Raises InputNotFound.
    """
    clips, sizes = read_clips(videos), PRESETS[preset]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whisper, vae = random_whisper(sizes.whisper, seed), random_vae(sizes.vae, seed)
    encoder = whisper.get_encoder().requires_grad_(True).to(device)
    encoder.embed_positions.requires_grad_(False).weight.copy_(sinusoids(*encoder.embed_positions.weight.shape))
    train_hearing(encoder, clips, hearing, HEARING_BATCH, seed, lambda step, loss: progress("hearing", step, loss))
    vae.requires_grad_(True).to(device)
    train_seeing(vae, clips, seeing, SEEING_BATCH, EVERY, seed, lambda step, loss: progress("seeing", step, loss))
    with written_aside(output) as folder:
        random_unet(sizes.unet, seed).save_pretrained(folder / "unet")
        vae.cpu().save_pretrained(folder / "vae")
        whisper.cpu().save_pretrained(folder / "whisper")
