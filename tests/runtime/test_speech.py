"""Audio tokens against transformers and MuseTalk's windowing, written here once more from their description."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from helpers.media import voice, write_wav
from musetalk_runtime.audio import speech
from musetalk_runtime.audio.activity import Activity
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.live import LivePcm
from musetalk_runtime.audio.speech import SpeechFrame, SpeechFrames, frame_count, window_start
from musetalk_runtime.audio.states import Encode, RollingStates
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.timings import Timings


def reference_tokens(checkpoint: Path, samples: np.ndarray, starts: list[int]) -> np.ndarray:
    """Segments of 30 s, all hidden states at 50 Hz, zeros around them, ten states a frame."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperModel

    whisper = WhisperModel.from_pretrained(checkpoint / "whisper").eval()
    extractor = WhisperFeatureExtractor()
    states = []
    for first in range(0, len(samples), 480_000):
        features = extractor(samples[first : first + 480_000], sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            hidden = whisper.encoder(features.input_features, output_hidden_states=True).hidden_states
        states.append(torch.stack(hidden, dim=2)[0].numpy())
    heard = np.concatenate(states)[: len(samples) * 50 // 16_000]
    around = np.zeros((10, *heard.shape[1:]), np.float32)
    padded = np.concatenate([around, heard, around])
    return np.stack([padded[start + 10 : start + 20].reshape(-1, heard.shape[2]) for start in starts])


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 300, 65 * 16_000)
    return (voice(65) + noise).astype(np.int16)


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


def from_file(bundle: Bundle, file: Path, fps: int) -> list[SpeechFrame]:
    return list(SpeechFrames(AudioFile(file), bundle.engines.encode_audio, bundle.spec, Fraction(fps), 30.0))


def from_live(bundle: Bundle, samples: np.ndarray, chunk: int, context: float) -> list[SpeechFrame]:
    pcm = samples.astype("<i2").tobytes()
    live = LivePcm(pcm[at : at + chunk * 2] for at in range(0, len(pcm), chunk * 2))
    return list(SpeechFrames(live, bundle.engines.encode_audio, bundle.spec, Fraction(25), context))


def test_tokens_equal_the_reference_across_two_segment_borders(
    opened: Bundle, checkpoint: Path, samples: np.ndarray, tmp_path: Path
) -> None:
    write_wav(tmp_path / "a.wav", samples)
    frames = from_file(opened, tmp_path / "a.wav", 25)
    assert [frame.index for frame in frames] == list(range(65 * 25))
    expected = reference_tokens(checkpoint, samples / np.float32(32768), [2 * k - 4 for k in range(65 * 25)])
    np.testing.assert_allclose(np.stack([frame.tokens for frame in frames]), expected, atol=1e-4)


@pytest.mark.parametrize("fps", [15, 21, 24])
def test_the_window_is_around_the_frames_time_at_any_rate(
    opened: Bundle, checkpoint: Path, samples: np.ndarray, tmp_path: Path, fps: int
) -> None:
    write_wav(tmp_path / "a.wav", samples[: 4 * 16_000])
    frames = from_file(opened, tmp_path / "a.wav", fps)
    starts = [k * 50 // fps - 4 for k in range(4 * fps)]
    expected = reference_tokens(checkpoint, samples[: 4 * 16_000] / np.float32(32768), starts)
    np.testing.assert_allclose(np.stack([frame.tokens for frame in frames]), expected, atol=1e-4)


@pytest.fixture
def speech_of(opened: Bundle, samples: np.ndarray, tmp_path: Path) -> Callable[..., list[SpeechFrame]]:
    """The frames of two seconds of speech, by an encoder; from a file, or live in pieces."""
    write_wav(tmp_path / "two.wav", samples[:32_000])
    pcm = samples[:32_000].astype("<i2").tobytes()

    def frames(encode: Encode, live: bool) -> list[SpeechFrame]:
        pieces = (pcm[at : at + 3200] for at in range(0, len(pcm), 3200))
        audio = LivePcm(pieces) if live else AudioFile(tmp_path / "two.wav")
        return list(SpeechFrames(audio, encode, opened.spec, Fraction(25), 10.0))

    return frames


def test_window_starts_80_ms_early_and_ends_120_ms_late() -> None:
    assert [window_start(k, Fraction(25), 4) for k in range(4)] == [-4, -2, 0, 2]
    assert [window_start(k, Fraction(15), 4) for k in range(4)] == [-4, -1, 2, 6]
    assert window_start(30_000, Fraction(30000, 1001), 4) == 50 * 1001 - 4


def test_the_last_frame_is_the_one_in_which_the_audio_ends() -> None:
    assert frame_count(960_000, Fraction(25)) == 1500
    assert frame_count(960_001, Fraction(25)) == 1501
    assert frame_count(1, Fraction(25)) == 1


def test_live_speech_in_one_piece_gives_the_files_tokens(opened: Bundle, samples: np.ndarray, tmp_path: Path) -> None:
    spoken = samples[: 8 * 16_000]
    write_wav(tmp_path / "a.wav", spoken)
    file = from_file(opened, tmp_path / "a.wav", 25)
    live = from_live(opened, spoken, chunk=len(spoken), context=30)
    assert len(live) == len(file) == 200
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(file, live, strict=True))


def test_live_speech_in_pieces_ends_with_the_files_tokens(opened: Bundle, samples: np.ndarray, tmp_path: Path) -> None:
    spoken = samples[:16_000]
    write_wav(tmp_path / "a.wav", spoken)
    file = from_file(opened, tmp_path / "a.wav", 25)
    live = from_live(opened, spoken, chunk=640, context=30)
    assert len(live) == len(file) == 25
    assert np.array_equal(file[-1].tokens, live[-1].tokens)


def test_live_frames_leave_as_soon_as_their_window_is_heard(opened: Bundle, samples: np.ndarray) -> None:
    spoken: list[int] = []

    def speak():
        for at in range(0, 32_000, 160):
            spoken.append(at + 160)
            yield samples[at : at + 160].astype("<i2").tobytes()

    heard = {}
    for frame in SpeechFrames(LivePcm(speak()), opened.engines.encode_audio, opened.spec, Fraction(25), 2.0):
        heard[frame.index] = spoken[-1]
    # 120 ms after the frame's time, and the resampler's few samples
    late = [heard[k] - (k * 640 + 1920) for k in range(47)]
    assert max(late) <= 160
    assert min(late) >= 0


def test_frames_that_are_ready_at_once_come_together(opened: Bundle, samples: np.ndarray) -> None:
    pcm = samples[: 5 * 16_000].astype("<i2").tobytes()
    halves = LivePcm([pcm[:80_000], pcm[80_000:]])
    groups = list(SpeechFrames(halves, opened.engines.encode_audio, opened.spec, Fraction(25), 10.0).groups())
    assert [frame.index for group in groups for frame in group] == list(range(125))
    assert [len(group) for group in groups] == [16, 16, 16, 12, 16, 16, 16, 15, 2]
    # 60 of the frames are heard in the first half, with the 120 ms after them, 63 in the second, and two as it ends


@pytest.mark.parametrize("live", [False, True])
def test_tokens_are_of_the_encoders_type(
    opened: Bundle, speech_of: Callable[..., list[SpeechFrame]], live: bool
) -> None:
    """An engine gives float16, and to convert the ten states of each frame took longer than all else on the host."""
    exact = speech_of(opened.engines.encode_audio, live)
    halves = speech_of(lambda mel, rows: opened.engines.encode_audio(mel, rows).astype(np.float16), live)
    assert [frame.tokens.dtype for frame in halves if frame.weight] == [np.float16] * 50
    assert all(np.array_equal(a.tokens, b.tokens.astype(np.float16)) for a, b in zip(halves, exact, strict=True))


class Diligent(RollingStates):
    """Encodes what is not wanted, too."""

    def window(self, start: int, wanted: bool = True) -> np.ndarray:  # noqa: ARG002
        return super().window(start)


def test_silence_is_not_encoded_and_the_speech_after_it_is_as_ever(
    opened: Bundle, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = np.zeros(40 * 16_000, np.int16)  # longer than any context
    spoken = np.concatenate([samples[:16_000], quiet, samples[16_000:32_000]])
    lengths: list[int] = []

    def encode(mel: np.ndarray, rows: slice) -> np.ndarray:
        lengths.append(rows.stop - rows.start)
        return opened.engines.encode_audio(mel, rows)

    def heard() -> list[SpeechFrame]:
        pcm = spoken.astype("<i2").tobytes()
        live = LivePcm(pcm[at : at + 3200] for at in range(0, len(pcm), 3200))
        return list(SpeechFrames(live, encode, opened.spec, Fraction(25), 5.0))

    frames = heard()
    speaking = [frame for frame in frames if frame.weight > 0]
    assert len(frames) == 42 * 25
    assert 50 < len(speaking) < 80
    assert len(lengths) <= len(speaking)
    assert max(lengths) <= 20  # states: a piece of 100 ms, and what the windows reach back
    assert not any(frame.tokens.any() for frame in frames if not frame.weight)
    monkeypatch.setattr(speech, "RollingStates", Diligent)
    expected = heard()
    assert len(lengths) > 300
    assert all(np.array_equal(frame.tokens, expected[frame.index].tokens) for frame in speaking)


def test_sound_comes_whole_and_ahead_of_the_frames_by_the_window(
    opened: Bundle, samples: np.ndarray, tmp_path: Path
) -> None:
    write_wav(tmp_path / "a.wav", samples[:20_000])
    frames = from_file(opened, tmp_path / "a.wav", 25)
    lengths = [frame.sound.shape[1] for frame in frames]
    assert sum(lengths) == 60_000
    assert lengths[0] == 6 * 960
    assert set(lengths[1:20]) == {1920}


@pytest.mark.parametrize("live", [False, True])
def test_the_log_mel_is_measured_apart_from_the_encoder(
    opened: Bundle, samples: np.ndarray, tmp_path: Path, live: bool
) -> None:
    timings = Timings()
    write_wav(tmp_path / "a.wav", samples[:16_000])
    audio = LivePcm([samples[:16_000].tobytes()]) if live else AudioFile(tmp_path / "a.wav")
    encode = timings.timed("audio_encoder", opened.engines.encode_audio)
    assert len(list(SpeechFrames(audio, encode, opened.spec, Fraction(25), 2.0, timings.measure))) == 25
    assert set(timings.to_json()) == {"mel", "audio_encoder"}


def test_silence_fades_the_mouth_out_and_speech_fades_it_in_before_it_is_heard() -> None:
    activity = Activity(Fraction(25))
    loud, quiet = np.full(16_000, 0.1, np.float32), np.zeros(16_000, np.float32)
    activity.feed(np.concatenate([quiet, loud, quiet]))
    weights = [activity.weight(2 * k - 4, 10) for k in range(75)]
    assert weights[:20] == [0.0] * 20
    assert weights[25:48] == [1.0] * 23  # from the first loud frame on
    assert weights[-1] == 0.0
    steps = np.abs(np.diff(weights))
    assert steps.max() <= 0.34
