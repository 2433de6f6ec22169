"""A checkpoint whose Whisper and VAE are trained on drawn people; its UNet is random, and still to be trained."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers.models.whisper.modeling_whisper import sinusoids

from musetalk_drawn.models.audio_encoder import train_audio_encoder
from musetalk_drawn.models.drawn_clip import read_clips
from musetalk_drawn.models.vae import train_vae
from musetalk_export.checkpoint.preset import PRESETS, random_unet, random_vae, random_whisper
from musetalk_export.checkpoint.save import save_model
from musetalk_export.write_error import writing
from musetalk_runtime.storage.folder import written_aside

Progress = Callable[[str, int, float], None]  # what is trained, step, loss

BATCH = 16  # segments of sound for the audio encoder, faces for the VAE
FRAME_STEP = 5  # one of so many frames of a clip is used


def train_encoders(
    videos: Path,
    output: Path,
    preset: str,
    audio_steps: int,
    vae_steps: int,
    seed: int,
    progress: Progress,
    audio_batch: int = BATCH,
    vae_batch: int = BATCH,
) -> None:
    """Train Whisper's encoder and the VAE of `preset` on the drawn clips in the folder `videos`.

    `output` becomes a diffusers tree with them and a random UNet. Uses a GPU if there is one. Raises InputNotFound, or
    OutputError where it cannot be written.
    """
    clips, sizes = read_clips(videos), PRESETS[preset]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whisper, vae = random_whisper(sizes.whisper, seed), random_vae(sizes.vae, seed)
    encoder = whisper.get_encoder().requires_grad_(True).to(device)
    encoder.embed_positions.requires_grad_(False).weight.copy_(sinusoids(*encoder.embed_positions.weight.shape))
    train_audio_encoder(
        encoder, clips, audio_steps, audio_batch, seed, lambda step, loss: progress("audio encoder", step, loss)
    )
    vae.requires_grad_(True).to(device)
    train_vae(vae, clips, vae_steps, vae_batch, FRAME_STEP, seed, lambda step, loss: progress("VAE", step, loss))
    unet = random_unet(sizes.unet, seed)
    with written_aside(output) as folder, writing(output, folder):
        for model, name in ((unet, "unet"), (vae.cpu(), "vae"), (whisper.cpu(), "whisper")):
            save_model(model, folder / name)
