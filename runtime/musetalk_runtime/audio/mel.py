"""Whisper's log-mel spectrogram in NumPy, equal to transformers' ``WhisperFeatureExtractor`` to float error."""

from functools import cache

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.model import HOP, SAMPLE_RATE

FFT = 400  # samples: 25 ms
EDGE = FFT // 2  # samples of a frame before its time
TAIL = 2 * FFT  # samples of silence after speech: frames past it hear nothing else
BLOCK = 96  # frames computed at once: what is made of them on the way stays in the cache
FLOOR = 1e-10
SILENCE = np.log10(np.float32(FLOOR))  # the log energies of a silent frame
RANGE = 8.0  # decades kept below the loudest bin


def log_mel(samples: Floats, bins: int, length: int = 0) -> Floats:
    """Log-mel spectrogram ``[bins, n // 160]`` of mono 16 kHz `samples` ``[n]`` in [-1, 1], n > 200.

    Silence follows where they are fewer than `length`, which then takes the place of n. Frames are centred with
    reflected edges; values lie within 2 of each other's maximum after the scaling ``(log10(power) + 4) / 4`` (Radford
    et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision").
    """
    length = max(length, len(samples))
    heard = log_mel_energies(np.pad(samples, (0, min(length - len(samples), TAIL))), bins)
    logs = np.full((bins, length // HOP), SILENCE)
    logs[:, : heard.shape[1]] = heard
    return normalize(logs)


def log_mel_energies(samples: Floats, bins: int) -> Floats:
    """`log_mel` before its clamping and scaling."""
    padded = np.pad(samples.astype(np.float32, copy=False), EDGE, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP][: len(samples) // HOP]
    return log_energies(frames, bins)


def log_energies(frames: Floats, bins: int) -> Floats:
    """Logarithms ``[bins, n]`` of the mel energies of `frames` ``[n, FFT]``.

    A frame's are the same bit for bit whatever frames it comes with; a product of matrices would not promise that.
    """
    blocks = [frames[first : first + BLOCK] for first in range(0, len(frames), BLOCK)]
    return np.concatenate([np.empty((bins, 0), np.float32), *(_block(block, bins) for block in blocks)], axis=1)


def _block(frames: Floats, bins: int) -> Floats:
    """`log_energies` by few calls: in each, other threads may take the interpreter's lock."""
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T, np.float32)
    rows, weights = _bands(bins)
    bands = power[rows]
    bands *= weights[:, :, None]
    logs: Floats = np.log10(np.maximum(bands.sum(axis=0), FLOOR))
    return logs


def normalize(logs: Floats) -> Floats:
    """Clamp the `logs` ``[bins, n]`` of a whole spectrogram to RANGE below their maximum and scale them, in place."""
    np.maximum(logs, logs.max() - RANGE, out=logs)
    logs += 4.0
    logs /= 4.0
    return logs


@cache
def _window() -> Floats:
    return np.hanning(FFT + 1)[:-1].astype(np.float32)  # periodic


@cache
def _bands(bins: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The filters without most of their zeros: ``[width, bins]``, rows of the power spectrum and their weights."""
    filters = _filters(bins)
    width = int(np.count_nonzero(filters, axis=1).max())
    first = np.minimum((filters > 0).argmax(axis=1), filters.shape[1] - width)
    rows = first + np.arange(width)[:, None]
    return rows, filters[np.arange(bins), rows]


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
