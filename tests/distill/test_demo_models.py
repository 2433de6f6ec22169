"""The demo's encoders learn, a little, from a clip that shows a mouth as wide open as its sound is loud."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

from musetalk_drawn.models.audio_encoder import Track, train_audio_encoder
from musetalk_drawn.models.drawn_clip import read_clips
from musetalk_drawn.models.encoders import train_encoders
from musetalk_drawn.models.fit import fit
from musetalk_drawn.models.vae import train_vae
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_export.checkpoint.preset import PRESETS, random_vae, random_whisper
from musetalk_runtime.core.errors import InputNotFound

BOX = [40, 30, 120, 110]
RATE = 16_000


def write_clip(file: Path, frames: np.ndarray, samples: np.ndarray) -> None:
    """25 fps and mono sound at 16 kHz."""
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "10"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        block = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        block.sample_rate, block.pts = RATE, 0  # so that the codec's delay is cut off again by whoever reads it
        for packet in (*video.encode(None), *sound.encode(block), *sound.encode(None)):
            container.mux(packet)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 2 s, 160x120 at 25 fps; the mouth is a white bar."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        opening = np.repeat(random.integers(0, 2, 10), 5).astype(float)
        frames = np.full((50, 120, 160, 3), 90, np.uint8)
        for frame, height in zip(frames, opening, strict=True):
            frame[80 : 82 + int(16 * height), 60:100] = 255
        sound = np.repeat(opening, RATE // 25) * random.normal(0, 6000, 2 * RATE)
        write_clip(folder / f"{name}.mp4", frames, sound.astype(np.int16))
        truth = {"fps": 25, "face_box": BOX, "opening": opening.tolist(), "width": [0.5] * 50, "rounding": [0.0] * 50}
        (folder / f"{name}.json").write_text(json.dumps(truth))
    return folder


def test_clips_are_read_with_their_truth(clips: Path) -> None:
    found = read_clips(clips)
    assert [clip.video.name for clip in found] == ["a.mp4", "b.mp4"]
    faces = list(found[0].faces(64, every=5))
    assert len(faces) == 10
    assert {face.shape for face in faces} == {(64, 64, 3)}
    bright = [int((face[40:56] > 200).sum()) for face in faces]
    assert np.corrcoef(bright, found[0].truth["opening"][::5])[0, 1] > 0.95
    assert abs(len(found[0].speech()) - 2 * 16_000) <= 2048  # two AAC frames
    assert found[0].mouth(np.array([0.02, 1.98])).shape == (2, 3)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no drawn clips"):
        read_clips(tmp_path)


def test_clips_that_are_held_out_are_not_learnt_from(clips: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").symlink_to(clips / f"{name}.mp4")
        truth = json.loads((clips / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps({**truth, "held_out": name == "b"}))
    assert [clip.video.name for clip in read_clips(tmp_path)] == ["a.mp4"]


def test_a_segment_pairs_sound_and_mouth(clips: Path) -> None:
    track = Track(read_clips(clips), 80, torch.device("cpu"))
    mel, mouth = track.segment(200, np.random.default_rng(1))
    assert mel.shape == (80, 400)
    assert mouth.shape == (200, 3)
    loudness = mel.reshape(80, 200, 2).mean(dim=(0, 2))
    assert np.corrcoef(loudness, mouth[:, 0])[0, 1] > 0.8


def test_the_audio_encoder_learns_and_moves_every_weight(clips: Path) -> None:
    encoder = random_whisper({**PRESETS["tiny"].whisper, "max_source_positions": 50}).get_encoder()
    encoder.requires_grad_(True)
    encoder.embed_positions.requires_grad_(False)  # sinusoids, as Whisper keeps them
    before = {name: value.clone() for name, value in encoder.named_parameters() if value.requires_grad}
    losses: list[float] = []
    train_audio_encoder(encoder, read_clips(clips), 40, 4, 0, lambda _step, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]
    still = [name for name, value in encoder.named_parameters() if name in before and torch.equal(value, before[name])]
    assert still == []


def test_the_vae_learns_and_scales_its_latents(clips: Path) -> None:
    vae = random_vae({**PRESETS["tiny"].vae, "sample_size": 32, "scaling_factor": 1.0}).requires_grad_(True)
    losses: list[float] = []
    train_vae(vae, read_clips(clips), 60, 4, 5, 0, lambda _step, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]
    assert vae.config.scaling_factor not in (1.0, 0.0)
    assert all(torch.isfinite(value).all() for value in vae.state_dict().values())


def test_encoders_become_a_checkpoint(clips: Path, tmp_path: Path) -> None:
    told: list[str] = []
    output = tmp_path / "encoders"
    train_encoders(clips, output, "tiny", 1, 1, 0, lambda what, *_: told.append(what), audio_batch=1, vae_batch=2)
    assert told == ["audio encoder", "VAE"]
    found = read_checkpoint(output)
    assert found.spec.image_size == 128
    assert found.spec.scaling_factor != PRESETS["tiny"].vae["scaling_factor"]
    assert torch.allclose(found.audio.embed_positions.weight[0], torch.tensor([0.0, 1.0]).repeat_interleave(32))


def test_the_same_seed_trains_the_same(clips: Path) -> None:
    def trained() -> torch.Tensor:
        vae = random_vae({**PRESETS["tiny"].vae, "sample_size": 32}).requires_grad_(True)
        train_vae(vae, read_clips(clips), 2, 2, 10, 0, lambda _step, _loss: None)
        return torch.cat([value.flatten() for value in vae.state_dict().values()])

    assert torch.equal(trained(), trained())


def test_fit_finds_a_minimum() -> None:
    weight = nn.Parameter(torch.tensor([5.0]))
    fit([weight], lambda _step: (weight**2).sum(), 200, 0.1, lambda _step, _loss: None)
    assert weight.abs().item() < 0.5
