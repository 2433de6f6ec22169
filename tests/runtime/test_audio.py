"""Audio files of every kind, and files that only look like audio."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import moving_picture, voice, write_wav
from musetalk_runtime.audio.chunk import AudioChunk
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.live import LivePcm
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia

SECONDS = 2.0


def read(audio: AudioFile | LivePcm) -> AudioChunk:
    chunks = list(audio)
    audio.close()
    return AudioChunk(
        np.concatenate([chunk.speech for chunk in chunks]), np.concatenate([chunk.sound for chunk in chunks], axis=1)
    )


def encode(file: Path, codec: str, rate: int, layout: str) -> Path:
    """Write two seconds of voice with `codec`."""
    samples = voice(SECONDS, rate)
    channels = 2 if layout == "stereo" else 1
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None], format="s16", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 8_000, "mono"),
        ("a.wav", "pcm_s16le", 44_100, "stereo"),
        ("a.wav", "pcm_s24le", 48_000, "stereo"),
        ("a.mp3", "libmp3lame", 44_100, "stereo"),
        ("a.m4a", "aac", 48_000, "mono"),
        ("a.ogg", "libopus", 48_000, "stereo"),
        ("a.flac", "flac", 16_000, "mono"),
    ],
)
def test_any_format_is_heard_at_both_rates(tmp_path: Path, name: str, codec: str, rate: int, layout: str) -> None:
    audio = AudioFile(encode(tmp_path / name, codec, rate, layout))
    assert audio.channels == (2 if layout == "stereo" else 1)
    heard = read(audio)
    padding = 0.05 * (codec in {"libmp3lame", "aac", "libopus"})  # of the lossy codecs
    assert SECONDS - 0.002 <= len(heard.speech) / 16_000 <= SECONDS + padding + 0.002
    assert heard.sound.shape[0] == audio.channels
    assert SECONDS - 0.002 <= heard.sound.shape[1] / 48_000 <= SECONDS + padding + 0.002
    expected = voice(SECONDS) / np.float32(32768)
    lag_free = [np.corrcoef(expected[1600:30_000], heard.speech[1600 + d : 30_000 + d])[0, 1] for d in range(-60, 61)]
    assert max(lag_free) > 0.98
    assert abs(int(np.argmax(lag_free)) - 60) <= (30 if padding else 1)


def test_16_khz_mono_is_heard_bit_for_bit(tmp_path: Path) -> None:
    samples = voice(SECONDS)
    write_wav(tmp_path / "a.wav", samples)
    assert np.array_equal(read(AudioFile(tmp_path / "a.wav")).speech, samples / np.float32(32768))


def test_a_title_in_latin_1_is_no_damage(tmp_path: Path) -> None:
    samples = voice(0.2)
    write_wav(tmp_path / "a.wav", samples)
    title = "Müller".encode("latin-1")
    info = b"INFOINAM" + len(title).to_bytes(4, "little") + title
    data = (tmp_path / "a.wav").read_bytes() + b"LIST" + len(info).to_bytes(4, "little") + info
    data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    (tmp_path / "a.wav").write_bytes(data)
    assert np.array_equal(read(AudioFile(tmp_path / "a.wav")).speech, samples / np.float32(32768))


def test_live_pcm_in_odd_pieces_is_heard_bit_for_bit() -> None:
    samples = voice(SECONDS)
    pcm = samples.astype("<i2").tobytes()
    live = LivePcm([pcm[:1], b"", pcm[1:4], pcm[4:10_001], pcm[10_001:]])
    assert np.array_equal(read(live).speech, samples / np.float32(32768))


def test_a_videos_sound_will_do(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        container.mux(video.encode(av.VideoFrame.from_ndarray(moving_picture(0), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(voice(SECONDS, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux([*audio.encode(frame), *audio.encode(None), *video.encode(None)])
    assert abs(len(read(AudioFile(tmp_path / "a.mp4")).speech) / 16_000 - SECONDS) < 0.1


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x7FFFFFBF])
def test_a_wav_written_to_a_pipe_has_no_length_and_is_whole(tmp_path: Path, length: int) -> None:
    write_wav(tmp_path / "a.wav", voice(1.0))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = struct.pack("<I", length)
    (tmp_path / "a.wav").write_bytes(content)
    audio = AudioFile(tmp_path / "a.wav")
    assert len(read(audio).speech) == 16_000
    assert audio.warnings == []


def test_a_truncated_wav_is_heard_to_its_end(bad_audio: Path) -> None:
    audio = AudioFile(bad_audio / "truncated.wav")
    assert len(read(audio).speech) == 19_956 // 2
    assert audio.warnings[0].endswith("truncated: its header promises 32000 bytes of audio, 19956 are there")


def test_what_is_no_audio_is_refused_at_once_in_one_line(bad_audio: Path) -> None:
    for name, reason in {
        "text.wav": "not an audio file that can be read",
        "empty.wav": "not an audio file that can be read",
        "silent.wav": "no audio samples",
        "mute.mp4": "no audio stream, only video",
        "list.m3u8": "not an audio file that can be read",
    }.items():
        with pytest.raises(InvalidMedia, match=reason) as raised:
            AudioFile(bad_audio / name)
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputNotFound, match="no such audio file"):
        AudioFile(bad_audio / "missing.wav")
    with pytest.raises(InvalidMedia):
        AudioFile(bad_audio)


def test_a_file_without_any_stream_is_told_in_plain_words(tmp_path: Path) -> None:
    header = bytes(12) + struct.pack(">IIIH", 1000, 0, 0x10000, 0x100) + bytes(10)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = header + matrix + bytes(24) + struct.pack(">I", 1)
    file = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom")
    file += struct.pack(">I4sI4s", 16 + len(movie), b"moov", 8 + len(movie), b"mvhd") + movie
    (tmp_path / "none.mp4").write_bytes(file)
    with pytest.raises(InvalidMedia, match=r"it has no audio stream$"):
        AudioFile(tmp_path / "none.mp4")


def test_damage_is_skipped_and_told(tmp_path: Path) -> None:
    file = encode(tmp_path / "a.mp3", "libmp3lame", 16_000, "mono")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    audio = AudioFile(file)
    assert 12_000 < len(read(audio).speech) < 20_000
    assert any("the audio ends at" in warning for warning in audio.warnings)
