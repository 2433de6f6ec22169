"""A checkpoint's encoders in PyTorch: the VAE's for pictures and Whisper's for sound."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musetalk_export.checkpoint.checkpoint import read_checkpoint, weights_id
from musetalk_export.graphs.whisper import AudioGraph
from musetalk_runtime.core.arrays import Floats

MAX_GPU_JOBS, MAX_CPU_JOBS = 12, 4  # videos that are prepared at the same time; each encodes faces in memory of its own


class Encoders:
    """The VAE's encoder and Whisper's, on the GPU in FP16 where there is one, else on the CPU in FP32, channels last.

    Attributes: ``spec``; ``audio_id``, the SHA-256 of Whisper's encoder; ``faces``, how many to encode at once. Any
    thread may call it.
    """

    def __init__(self, checkpoint: Path) -> None:
        """Read them; raises InputNotFound, InvalidArgument or InvalidCheckpoint."""
        parts = read_checkpoint(checkpoint)
        self.spec = parts.spec
        self.audio_id = weights_id(parts.audio.state_dict())
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._half = self._device.type == "cuda"
        self.faces = 32 if self._half else 4
        self._images = _ImageEncoder(parts.vae).to(self._device)
        self._images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._audio = AudioGraph(parts.audio).to(self._device)

    @contextmanager
    def jobs(self, videos: int) -> Iterator[int]:
        """Within the block, how many of so many `videos` at a time keep the device busy.

        On a CPU they share PyTorch's threads: several threads for one layer mostly wait for each other.
        """
        threads = torch.get_num_threads()
        if self._half:
            yield min(MAX_GPU_JOBS, os.cpu_count() or 1)
            return
        jobs = max(1, min(MAX_CPU_JOBS, threads, videos))
        torch.set_num_threads(max(1, threads // jobs))
        try:
            yield jobs
        finally:
            torch.set_num_threads(threads)

    def encode_images(self, images: Floats) -> Floats:
        """Latents ``[N, C, S, S]``, times the scaling factor, of RGB `images` ``[N, 3, I, I]`` in [0, 1]."""
        return self._run(self._images, images)

    def encode_audio(self, mel: Floats, rows: slice = slice(None)) -> Floats:
        """The `rows` of the hidden states ``[T / 2, audio_states, audio_width]`` of a log-mel spectrogram
        ``[mel_bins, T]``.
        """
        states: Floats = self._run(self._audio, mel[None])[0][rows]
        return states

    def _run(self, model: Any, given: Floats) -> Floats:
        tensor = torch.from_numpy(np.ascontiguousarray(given)).to(self._device)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found = self._in_half(model, tensor) if self._half else None
            result: Floats = (model(tensor) if found is None else found).float().cpu().numpy()
        return result

    def _in_half(self, model: Any, tensor: Tensor) -> Tensor | None:
        """What `model` makes in FP16, None where that overflows."""
        with torch.autocast("cuda", torch.float16):
            found: Tensor = model(tensor)
        return found if bool(torch.isfinite(found).all()) else None


class _ImageEncoder(nn.Module):
    """``images [N, 3, I, I]`` in [0, 1] -> the mean latents ``[N, C, S, S]``, times the scaling factor.

    It computes what EncoderGraph does, which is made to be exported. diffusers' own layers take two thirds of its time.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae, self.scaling_factor = vae, float(vae.config.scaling_factor)

    def forward(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(images * 2 - 1).latent_dist.mean * self.scaling_factor
        return latents
