"""Sound effects: resampling, reverberation and noise."""

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.model import SAMPLE_RATE

Sound = npt.NDArray[np.float64]
"""``[n]``, -1 to 1."""

PEAK = 0.7  # of full scale


def resampled(samples: npt.NDArray[np.int16], rate: int) -> Sound:
    """`samples` at `rate` Hz as sound at 16 kHz, by dropping or adding the high end of the spectrum."""
    block = rate // 10  # padded to tenths of a second, which both rates have a whole number of samples in
    blocks = -(-len(samples) // block) + 1
    sound = np.zeros(blocks * block)
    sound[: len(samples)] = samples / 32768
    count = blocks * (SAMPLE_RATE // 10)
    found: Sound = np.fft.irfft(np.fft.rfft(sound)[: count // 2 + 1], count) * (count / len(sound))
    return found[: round(len(samples) * SAMPLE_RATE / rate)]


def with_reverberation(sound: Sound, seconds: float, seed: int) -> Sound:
    """The sound in a room where it takes `seconds` to fade by 60 dB; as long as it was."""
    rng = np.random.default_rng([seed, 0x40])
    count = max(1, round(seconds * SAMPLE_RATE))
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count) * 0.5 / np.sqrt(count)
    tail[: SAMPLE_RATE // 250] = 0
    tail[0] = 1.0
    padded = 1 << int(np.ceil(np.log2(len(sound) + count)))
    heard: Sound = np.fft.irfft(np.fft.rfft(sound, padded) * np.fft.rfft(tail, padded), padded)[: len(sound)]
    return heard


def with_noise(sound: Sound, decibels: float, seed: int) -> Sound:
    """The sound with noise that is `decibels` below it, louder at low frequencies."""
    rng = np.random.default_rng([seed, 0x50])
    spectrum = np.fft.rfft(rng.standard_normal(len(sound)))
    spectrum /= np.sqrt(1 + np.arange(len(spectrum)) * (SAMPLE_RATE / len(sound)) / 300)
    noise = np.fft.irfft(spectrum, len(sound))
    loud = float(np.sqrt(np.mean(sound**2))) / max(float(np.sqrt(np.mean(noise**2))), 1e-9)
    mixed: Sound = sound + noise * loud * 10 ** (-decibels / 20)
    return mixed


def as_pcm(sound: Sound) -> npt.NDArray[np.int16]:
    """16 bits, scaled to a peak of ``PEAK`` of full scale."""
    peak = max(float(np.abs(sound).max()) if len(sound) else 0.0, 1e-9)
    return np.round(sound * (PEAK / peak * 32767)).astype(np.int16)
