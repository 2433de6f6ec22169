"""Measurements of a bundle's engines on this machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from musetalk_engines.modelset import ModelSet
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.core.model import HOP, SAMPLE_RATE

MIN_MEASURED_S = 1.0  # of runs, for each figure
MIN_RUNS = 3
MEASURED_CONTEXTS_S = (30.0, 10.0, 5.0, 2.0)  # ONNX Runtime takes any length, so more of them can be tried
MAX_LIVE_AUDIO_MS = 8.0  # of a 40 ms frame, for hearing live speech again at every frame


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


def affordable_context(audio_ms: Mapping[float, float]) -> float:
    """The longest context, of milliseconds by seconds, that takes at most MAX_LIVE_AUDIO_MS, else the shortest."""
    return float(max((seconds for seconds, ms in audio_ms.items() if ms <= MAX_LIVE_AUDIO_MS), default=min(audio_ms)))


def median_ms(run: Callable[[], Any]) -> float:
    """Median milliseconds that `run` takes, the first time apart."""
    run()
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < MIN_MEASURED_S:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(median(times) * 1e3, 3)
