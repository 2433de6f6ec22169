import tracemalloc

import numpy as np
import pytest

from musetalk_runtime.audio import rolling_mel
from musetalk_runtime.audio.mel import log_mel
from musetalk_runtime.audio.rolling_array import RollingArray
from musetalk_runtime.audio.rolling_mel import RollingMel
from musetalk_runtime.core.model import HOP


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes by 80 dB, with stretches of digital silence."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(10 ** random.uniform(-5, -1, int(seconds * 10) + 1), 1600)[: int(seconds * 16_000)]
    loudness[np.repeat(random.random(len(loudness) // 4000 + 1) < 0.2, 4000)[: len(loudness)]] = 0
    return (random.normal(0, 1, len(loudness)) * loudness).astype(np.float32)


def whole(samples: np.ndarray, first: int, end: int, length: int, bins: int) -> np.ndarray:
    """What RollingMel.window is to give, computed from the window's samples alone."""
    return log_mel(np.pad(samples[first * HOP : end * HOP], (0, (length - end + first) * HOP)), bins)


@pytest.mark.parametrize("bins", [80, 128])
def test_equals_whispers_feature_extractor(bins: int) -> None:
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * 16_000).astype(np.float32)
    samples[200_000:] = 0
    expected = extractor(feature_size=bins)(samples, sampling_rate=16_000, return_tensors="np")
    np.testing.assert_allclose(log_mel(samples, bins), expected.input_features[0], atol=1e-5)


def test_a_frame_every_10_ms() -> None:
    assert log_mel(np.zeros(3200, np.float32), 80).shape == (80, 20)


@pytest.mark.parametrize("count", [1, 200, 399, 16_001, 79_100, 79_801, 80_000])
def test_silence_after_speech_costs_no_transform_and_changes_nothing(count: int) -> None:
    samples = speech(5)[:count]
    assert np.array_equal(log_mel(samples, 80, 80_000), log_mel(np.pad(samples, (0, 80_000 - count)), 80))


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("length", [4, 5, 50, 200])
@pytest.mark.parametrize("pieces", [1, 160, 640, 20_000])
def test_a_rolling_window_equals_the_whole_computation(bins: int, length: int, pieces: int) -> None:
    samples = speech(3 if pieces == 1 else 6, seed=length + pieces)
    random = np.random.default_rng(pieces)
    rolling, first, end = RollingMel(bins, length), 0, 0
    at = 0
    while at < len(samples):
        count = int(random.integers(1, 2 * pieces))
        rolling.feed(samples[at : at + count])
        at = min(len(samples), at + count)
        assert rolling.heard == at
        if at < (end + 1) * HOP or (pieces == 1 and random.random() < 0.9):
            continue
        end = int(random.integers(end, at // HOP + 1)) if random.random() < 0.3 else at // HOP
        first = max(first, end - length, min(end - 1, first + int(random.integers(-8, 3))), 0)
        if first < end:
            mel = rolling.window(first, end)
            assert np.array_equal(mel, whole(samples, first, end, length, bins)), (first, end)
            assert np.array_equal(mel, rolling.window(first, end)), (first, end)
    assert first > 0


@pytest.mark.parametrize("bins", [80, 128])
def test_a_rolling_window_of_30_s_equals_the_whole_computation(bins: int) -> None:
    samples, rolling = speech(40), RollingMel(bins, 3000)
    for end in [2, 4, 6, 8, 300, 302, 2996, 2998, 3000, 3002, 3006, 3990, 4000]:
        rolling.feed(samples[rolling.heard : end * HOP])
        first = max(0, end - 3000)
        assert np.array_equal(rolling.window(first, end), whole(samples, first, end, 3000, bins)), end


def test_a_window_may_jump_past_all_that_was_computed() -> None:
    samples, rolling = speech(6), RollingMel(80, 50)
    rolling.feed(samples)
    for first, end in [(0, 20), (200, 201), (201, 250), (540, 590)]:
        assert np.array_equal(rolling.window(first, end), whole(samples, first, end, 50, 80)), first


def test_a_rolling_window_computes_a_frame_once_but_for_five_at_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def count(frames: np.ndarray, bins: int) -> np.ndarray:
        computed.append(len(frames))
        return np.zeros((bins, len(frames)), np.float32)

    monkeypatch.setattr(rolling_mel, "log_energies", count)
    rolling = RollingMel(80, 3000)
    for end in range(4, 4000, 4):
        rolling.feed(np.zeros(4 * HOP, np.float32))
        rolling.window(max(0, end - 3000), end)
    assert max(computed) <= 4 + 5


def test_a_rolling_array_keeps_its_end_in_bounded_memory() -> None:
    array, expected = RollingArray(2), np.arange(200_000, dtype=np.float32).reshape(2, -1)
    tracemalloc.start()
    for end in range(100, 100_001, 100):
        array.append(expected[:, end - 100 : end])
        array.forget(end - 1000)
        assert np.array_equal(array.between(array.first, array.end), expected[:, max(0, end - 1000) : end])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2 * 1100 * 4  # bytes: three times what was kept, and what the comparison takes
    array.forget(200_000)
    array.append(expected[:, :1])
    assert (array.first, array.end) == (200_000, 200_001)
    assert np.array_equal(array.between(200_000, 200_001), expected[:, :1])
