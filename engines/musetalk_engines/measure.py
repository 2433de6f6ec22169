"""Measurements of a bundle's engines on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_engines.modelset import ModelSet
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.certification.measure import MAX_LIVE_AUDIO_MS, affordable_context, median_ms
from musetalk_runtime.core.model import HOP, SAMPLE_RATE

MEASURED_CONTEXTS_S = (30.0, 10.0, 5.0, 2.0)  # ONNX Runtime takes any length, so more of them can be tried


def generator_ms(modelset: ModelSet, folder: Path, provider: str, batch_sizes: Sequence[int]) -> dict[int, float]:
    """Median milliseconds the generator takes on `provider` for each batch size."""
    session = OnnxSession(folder / "generator.onnx", provider)
    golden = modelset.golden()
    latents, tokens = golden["unet.latents"], golden["unet.tokens"]

    def run(size: int) -> Any:
        shape = (size, *latents.shape[1:]), (size, *tokens.shape[1:])
        return session.run("faces", latents=np.resize(latents, shape[0]), tokens=np.resize(tokens, shape[1]))

    return {size: median_ms(lambda size=size: run(size)) for size in batch_sizes}  # type: ignore[misc]


def live_context(modelset: ModelSet, folder: Path, provider: str) -> tuple[float, dict[float, float]]:
    """Seconds of speech the audio encoder can hear again at every frame of live speech, and what was measured.

    Of MEASURED_CONTEXTS_S, from the longest on until one is affordable; milliseconds by seconds.
    """
    session = OnnxSession(folder / "audio_encoder.onnx", provider)
    spec = modelset.spec
    measured: dict[float, float] = {}
    for seconds in (context for context in MEASURED_CONTEXTS_S if context <= spec.audio_seconds):
        mel = np.zeros((1, spec.mel_bins, round(seconds * SAMPLE_RATE / HOP)), np.float32)
        measured[seconds] = median_ms(lambda mel=mel: session.run("states", mel=mel))  # type: ignore[misc]
        if measured[seconds] <= MAX_LIVE_AUDIO_MS:
            break
    return affordable_context(measured), measured
