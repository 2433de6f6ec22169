"""Samples and channels as files have them: floats of any size, layouts that nobody named, a voice in one channel."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import voice
from helpers.wav_files import FLOAT, wav
from musetalk_runtime.audio.decode import file
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia

VOICE = (voice(1.0) / np.float32(32768)).astype(np.float32)


def write_float_wav(file: Path, samples: Floats) -> AudioFile:
    """Write `samples` ``[channels, n]`` at 16 kHz as scipy and soundfile do: without a channel mask."""
    file.write_bytes(wav(samples.T.astype("<f4").tobytes(), FLOAT, len(samples), 32))
    return AudioFile(file)


def read(audio: AudioFile) -> tuple[Floats, Floats]:
    chunks = list(audio)
    audio.close()
    return np.concatenate([c.speech for c in chunks]), np.concatenate([c.sound for c in chunks], axis=1)


def test_floats_without_a_channel_mask_are_heard_bit_for_bit(tmp_path: Path) -> None:
    speech, _ = read(write_float_wav(tmp_path / "a.wav", VOICE[None]))
    assert np.array_equal(speech, VOICE)


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 8, 11])
def test_any_number_of_channels_is_heard(tmp_path: Path, channels: int) -> None:
    speech, sound = read(write_float_wav(tmp_path / "a.wav", np.repeat(VOICE[None], channels, axis=0)))
    assert sound.shape == (2, 48_000)
    assert np.corrcoef(speech, VOICE)[0, 1] > 0.999
    assert np.abs(speech).max() > 0.5 * np.abs(VOICE).max()


@pytest.mark.parametrize(("channels", "mask"), [(9, 0), (24, 0), (32, 0xFFFFFFFF)])
def test_any_number_of_channels_of_integers_is_heard(tmp_path: Path, channels: int, mask: int) -> None:
    samples = np.repeat(voice(1.0).astype("<i2"), channels).tobytes()
    (tmp_path / "a.wav").write_bytes(wav(samples, channels=channels, mask=mask))
    audio = AudioFile(tmp_path / "a.wav")
    speech, _ = read(audio)
    assert np.allclose(speech, VOICE, atol=1e-3)
    assert audio.warnings == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_voice_in_some_of_many_channels_is_heard(tmp_path: Path, sign: int) -> None:
    samples = np.zeros((24, 16_000), np.float32)
    samples[7], samples[23] = VOICE, sign * VOICE
    speech, _ = read(write_float_wav(tmp_path / "a.wav", samples))
    assert np.abs(np.corrcoef(speech, VOICE)[0, 1]) > 0.999
    assert np.abs(speech).max() > 0.9 * np.abs(VOICE).max()


def test_24_bits_in_32_are_no_floats(tmp_path: Path) -> None:
    samples = (voice(1.0).astype("<i4") << 16).tobytes()
    (tmp_path / "a.wav").write_bytes(wav(samples, bits=32, valid_bits=24))
    speech, _ = read(AudioFile(tmp_path / "a.wav"))
    assert np.array_equal(speech, VOICE)


@pytest.mark.parametrize(
    ("length", "warnings"), [(32_000, 0), (0, 0), (-1, 0), (1 << 40, 0), (2**63 - 1, 0), (64_000, 1)]
)
def test_an_rf64_whose_length_was_made_up_is_read_to_its_end(tmp_path: Path, length: int, warnings: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(voice(1.0).astype("<i2").tobytes(), long_length=length))
    audio = AudioFile(tmp_path / "a.wav")
    speech, _ = read(audio)
    assert np.array_equal(speech, VOICE)
    assert [": truncated: its header promises" in warning for warning in audio.warnings] == [True] * warnings


@pytest.mark.parametrize(("codec", "layout"), [("libopus", "7.1"), ("flac", "7.1"), ("ac3", "5.1"), ("aac", "7.1")])
def test_surround_is_mixed_to_stereo(tmp_path: Path, codec: str, layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    with av.open(str(tmp_path / "a.mkv"), "w") as opened:
        stream = opened.add_stream(codec, rate=48_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.repeat(voice(1.0, 48_000), count)[None], format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48_000, 0
        opened.mux([*stream.encode(frame), *stream.encode(None)])
    audio = AudioFile(tmp_path / "a.mkv")
    speech, sound = read(audio)
    assert (audio.channels, sound.shape[0]) == (2, 2)
    assert abs(len(speech) / 16_000 - 1) < 0.1
    assert np.abs(speech).max() > 0.5 * np.abs(VOICE).max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_silence(tmp_path: Path, value: float) -> None:
    samples = VOICE[None].copy()
    samples[0, 100:110] = value
    audio = write_float_wav(tmp_path / "a.wav", samples)
    speech, sound = read(audio)
    assert np.array_equal(speech[110:], VOICE[110:])
    assert not speech[100:110].any()
    assert np.isfinite(sound).all()
    assert audio.warnings == [f"{audio.path}: 10 of its samples are not numbers: they are silence"]


@pytest.mark.parametrize("scale", [8.0, 32768.0, 1e30])
def test_integers_written_as_floats_are_clipped(tmp_path: Path, scale: float) -> None:
    audio = write_float_wav(tmp_path / "a.wav", VOICE[None] / np.abs(VOICE).max() * np.float32(scale))
    speech, sound = read(audio)
    assert np.abs(speech).max() == np.abs(sound).max() == 1
    assert audio.warnings == [f"{audio.path}: its samples reach {scale:.3g} times full scale: they are clipped"]


@pytest.mark.parametrize(("left", "right"), [(1, -1), (-1, 1), (1, 0), (0, 1), (1, 1), (1, -0.9)])
def test_a_voice_in_any_channel_is_heard_by_the_model(tmp_path: Path, left: float, right: float) -> None:
    both = np.stack([left * VOICE, right * VOICE]).astype(np.float32)
    speech, sound = read(write_float_wav(tmp_path / "a.wav", both))
    loudest = max(abs(left), abs(right))
    assert np.abs(speech).max() >= 0.49 * loudest * np.abs(VOICE).max()
    assert np.abs(np.corrcoef(speech, VOICE)[0, 1]) > 0.999
    assert np.allclose(sound[0] * right, sound[1] * left, atol=1e-4)  # the listener has both as they were


def test_opposite_channels_with_an_offset_are_heard(tmp_path: Path) -> None:
    speech, _ = read(write_float_wav(tmp_path / "a.wav", np.stack([VOICE + 0.3, 0.3 - VOICE]).astype(np.float32)))
    assert np.corrcoef(speech, VOICE)[0, 1] > 0.99


def test_channels_that_become_opposite_are_heard_without_a_click(tmp_path: Path) -> None:
    both = np.stack([np.tile(VOICE, 3), np.concatenate([VOICE, -VOICE, VOICE])])
    speech, _ = read(write_float_wav(tmp_path / "a.wav", both))
    for second in (0, 1, 2):
        heard = speech[second * 16_000 + 8_000 : (second + 1) * 16_000]
        assert np.corrcoef(heard, VOICE[8_000:])[0, 1] > 0.99, second
    assert np.abs(np.diff(speech)).max() <= 1.1 * np.abs(np.diff(np.tile(VOICE, 3))).max()


def test_a_sound_in_endless_tiny_packets_is_refused_before_it_takes_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "MOST_PACKETS", 500)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", 16_000, layout="mono")
        container.start_encoding()
        for k in range(700):  # each holds a sample
            packet = av.Packet(b"\1\1")
            packet.stream, packet.time_base = stream, Fraction(1, 16_000)
            packet.pts = packet.dts = k
            container.mux(packet)
    with pytest.raises(InvalidMedia, match=r"a\.mkv: \d+ packets hold 0\.0 s of audio: those are too many"):
        read(AudioFile(tmp_path / "a.mkv"))
