"""Whisper's log-mel spectrogram in NumPy, equal to transformers' ``WhisperFeatureExtractor`` to float error."""

from functools import cache

import numpy as np
import numpy.typing as npt

from musetalk_runtime.model import HOP, SAMPLE_RATE

Floats = npt.NDArray[np.float32]

FFT = 400  # samples: 25 ms
FLOOR = 1e-10
RANGE = 8.0  # decades kept below the loudest bin


def log_mel(samples: Floats, bins: int) -> Floats:
    """Log-mel spectrogram ``[bins, n // 160]`` of mono 16 kHz `samples` ``[n]`` in [-1, 1], n > 200.

    Frames are centred with reflected edges; values lie within 2 of each other's maximum after the scaling
    ``(log10(power) + 4) / 4`` (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision").
    """
    padded = np.pad(samples.astype(np.float32, copy=False), FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP][: len(samples) // HOP]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    logs = np.log10(np.maximum(_filters(bins) @ power.T, FLOOR))
    logs = np.maximum(logs, logs.max() - RANGE)
    scaled: Floats = ((logs + 4.0) / 4.0).astype(np.float32)
    return scaled


@cache
def _window() -> Floats:
    return np.hanning(FFT + 1)[:-1].astype(np.float32)  # periodic


@cache
def _filters(bins: int) -> Floats:
    """Triangular filters ``[bins, FFT / 2 + 1]`` on Slaney's mel scale, each of unit area (Slaney 1998)."""
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), bins + 2))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: Floats = (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return filters


_KNEE_HERTZ, _KNEE_MEL = 1000.0, 15.0  # linear below, logarithmic above
_LOG_STEP = np.log(6.4) / 27.0


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _KNEE_HERTZ:
        return hertz * _KNEE_MEL / _KNEE_HERTZ
    return float(_KNEE_MEL + np.log(hertz / _KNEE_HERTZ) / _LOG_STEP)


def _mel_to_hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mels * _KNEE_HERTZ / _KNEE_MEL
    return np.where(mels < _KNEE_MEL, linear, _KNEE_HERTZ * np.exp((mels - _KNEE_MEL) * _LOG_STEP))
