import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from musetalk_runtime.audio.mel import log_mel


@pytest.mark.parametrize("bins", [80, 128])
def test_equals_whispers_feature_extractor(bins: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * 16_000).astype(np.float32)
    samples[200_000:] = 0
    expected = WhisperFeatureExtractor(feature_size=bins)(samples, sampling_rate=16_000, return_tensors="np")
    np.testing.assert_allclose(log_mel(samples, bins), expected.input_features[0], atol=1e-5)


def test_a_frame_every_10_ms() -> None:
    assert log_mel(np.zeros(3200, np.float32), 80).shape == (80, 20)
