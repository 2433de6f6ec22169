"""Audio whose timestamps have gaps, overlaps and jumps; files that were joined; files of several tracks."""

from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import moving_picture, voice
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.core.arrays import Floats


def write(
    file: Path, codec: str, rate: int, *seconds: float, layout: str = "mono", container: str | None = None
) -> Path:
    """A second of voice at each of `seconds`."""
    with av.open(str(file), "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, layout=layout)
        for second in seconds:
            channels = 2 if layout == "stereo" else 1
            frame = av.AudioFrame.from_ndarray(np.repeat(voice(1.0, rate), channels)[None], format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, round(second * rate)
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode(None))
    return file


def read(file: Path) -> tuple[Floats, Floats, list[str]]:
    audio = AudioFile(file)
    chunks = list(audio)
    audio.close()
    speech, sound = (
        np.concatenate(parts, axis=-1) for parts in zip(*((c.speech, c.sound) for c in chunks), strict=True)
    )
    return speech, sound, audio.warnings


def is_voice(speech: Floats, at: float) -> bool:
    expected = voice(1.0)[2_000:14_000] / 32768
    first = round(at * 16_000) + 2_000
    return bool(np.corrcoef(speech[first : first + 12_000], expected)[0, 1] > 0.99)


def is_silent(speech: Floats, begin: float, end: float) -> bool:
    return not speech[round((begin + 0.02) * 16_000) : round((end - 0.02) * 16_000)].any()


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mp4", "flac")])
def test_a_gap_is_silence(tmp_path: Path, name: str, codec: str) -> None:
    speech, sound, warnings = read(write(tmp_path / name, codec, 16_000, 0, 3))
    assert abs(len(speech) / 16_000 - 4) < 0.3
    assert abs(sound.shape[1] - 3 * len(speech)) < 100
    assert warnings == []
    assert is_voice(speech, 0)
    assert is_silent(speech, 1.3, 2.7)
    assert is_voice(speech, 3)


def test_silence_that_opus_did_not_send_is_there(tmp_path: Path) -> None:
    """As WebRTC's recorders write it: discontinuous transmission leaves packets out."""
    with av.open(str(tmp_path / "whole.webm"), "w") as whole, av.open(str(tmp_path / "dtx.webm"), "w") as sparse:
        streams = [opened.add_stream("libopus", rate=48_000, layout="mono") for opened in (whole, sparse)]
        frame = av.AudioFrame.from_ndarray(voice(3.0, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*streams[0].encode(frame), *streams[0].encode(None)]:
            if packet.pts is not None and not 1 <= packet.pts * packet.time_base < 2:
                packet.stream = streams[1]
                sparse.mux(packet)
    speech, _, warnings = read(tmp_path / "dtx.webm")
    assert abs(len(speech) / 16_000 - 3) < 0.05
    assert warnings == []
    assert is_silent(speech, 1.1, 1.9)


def test_a_delayed_track_begins_with_silence(tmp_path: Path) -> None:
    speech, _, warnings = read(write(tmp_path / "a.mov", "pcm_s16le", 16_000, 2))
    assert (len(speech), warnings) == (48_000, [])
    assert is_silent(speech, 0, 2)
    assert is_voice(speech, 2)


def test_what_overlaps_is_dropped(tmp_path: Path) -> None:
    speech, _, warnings = read(write(tmp_path / "a.mkv", "pcm_s16le", 16_000, 0, 4, 4.5))
    assert warnings == []
    assert abs(len(speech) / 16_000 - 5.5) < 0.01


@pytest.mark.parametrize("second", [5000.0, 1e6])
def test_an_absurd_jump_is_no_silence_and_said(tmp_path: Path, second: float) -> None:
    speech, _, warnings = read(write(tmp_path / "a.mkv", "pcm_s16le", 16_000, 0, second))
    assert len(speech) == 32_000
    assert is_voice(speech, 1)
    assert [f"its timestamps jump by +{second - 1:.1f} s at 1.0 s" in warning for warning in warnings] == [True]


def test_gaps_of_hours_in_all_are_no_silence(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mkv", "pcm_s16le", 16_000, *(500.0 * k for k in range(9)))
    seconds = sum(len(chunk.speech) for chunk in AudioFile(file)) / 16_000
    assert 3000 < seconds < 3700


@pytest.mark.parametrize(
    ("codec", "container", "first", "second"),
    [
        ("aac", "adts", (44_100, "mono"), (24_000, "stereo")),
        ("libmp3lame", "mp3", (44_100, "mono"), (24_000, "stereo")),
        ("flac", "flac", (44_100, "stereo"), (24_000, "mono")),
        ("aac", "mpegts", (48_000, "stereo"), (48_000, "stereo")),
        ("flac", "flac", (44_100, "mono"), (96_000, "stereo")),
        ("libopus", "ogg", (48_000, "mono"), (48_000, "mono")),
        ("libopus", "ogg", (48_000, "mono"), (48_000, "stereo")),
        ("pcm_s16le", "wav", (16_000, "mono"), (48_000, "stereo")),
        ("aac", "mp4", (44_100, "mono"), (24_000, "stereo")),
        ("aac", "flv", (44_100, "mono"), (22_050, "stereo")),
        ("aac", "matroska", (44_100, "mono"), (24_000, "stereo")),
    ],
)
def test_files_that_were_joined_are_heard_one_after_the_other(
    tmp_path: Path, codec: str, container: str, first: tuple[int, str], second: tuple[int, str]
) -> None:
    parts = [
        write(tmp_path / str(k), codec, rate, 0, layout=layout, container=container).read_bytes()
        for k, (rate, layout) in enumerate((first, second))
    ]
    (tmp_path / "joined").write_bytes(b"".join(parts))
    speech, _, warnings = read(tmp_path / "joined")
    assert [warning for warning in warnings if "header" in warning] == []
    assert abs(len(speech) / 16_000 - 2) < 0.2
    assert np.std(speech[20_000:30_000]) > 0.3 * np.std(speech[4_000:14_000])


def test_a_joined_file_that_is_not_heard_is_told(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", "aac", 44_100, 0).read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole + whole[:-300])
    speech, _, warnings = read(tmp_path / "b.mp4")
    assert abs(len(speech) / 16_000 - 1) < 0.1
    left_out = f"what follows its byte {len(whole)} is left out: not an audio file"
    assert [left_out in warning for warning in warnings] == [True]


def test_a_stream_that_begins_in_the_middle_is_told(tmp_path: Path) -> None:
    numbers = {"mpegts_start_pid": "0x300", "mpegts_pmt_start_pid": "0x1100"}
    with av.open(str(tmp_path / "b.ts"), "w", options=numbers) as opened:
        stream = opened.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(1.0, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        opened.mux([*stream.encode(frame), *stream.encode(None)])
    whole = write(tmp_path / "a.ts", "aac", 48_000, 0).read_bytes()
    (tmp_path / "c.ts").write_bytes(whole + (tmp_path / "b.ts").read_bytes())
    speech, _, warnings = read(tmp_path / "c.ts")
    assert len(speech) / 16_000 > 0.9
    assert ["then another stream begins" in warning for warning in warnings] == [True]


def test_a_file_joined_of_very_many_is_bounded_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musetalk_runtime.core.joined.MAX_FILES", 3)
    monkeypatch.setattr("musetalk_runtime.audio.decode.file.MAX_FILES", 3)
    whole = write(tmp_path / "a.wav", "pcm_s16le", 16_000, 0).read_bytes()
    for count, left_out in ((3, False), (4, True)):
        (tmp_path / "b.wav").write_bytes(whole * count)
        speech, _, warnings = read(tmp_path / "b.wav")
        assert len(speech) == 48_000
        assert ["more than 3 files are joined" in warning for warning in warnings] == [True] * left_out


@pytest.mark.parametrize(("options", "told"), [({"write_xing": "0"}, False), ({}, True)])
def test_only_a_length_that_the_file_says_is_compared(tmp_path: Path, options: dict[str, str], told: bool) -> None:
    """That of an MP3 whose first frame does not count the others is FFmpeg's guess."""
    with av.open(str(tmp_path / "a.mp3"), "w", options=options) as opened:
        stream = opened.add_stream("libmp3lame", rate=44_100, layout="mono", options={"flags": "+qscale"})
        quiet = np.concatenate([np.zeros(44_100 * 5, np.int16), voice(3.0, 44_100)])
        frame = av.AudioFrame.from_ndarray(quiet[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 44_100, 0
        opened.mux([*stream.encode(frame), *stream.encode(None)])
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2] if told else whole)
    *_, warnings = read(tmp_path / "a.mp3")
    assert ["its header says" in warning for warning in warnings] == [True] * told


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV 17 writes no dispositions")
def test_the_default_track_is_heard_and_it_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as opened:
        video = opened.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        tracks = [opened.add_stream("flac", rate=16_000, layout="mono") for _ in range(2)]
        tracks[0].disposition = av.stream.Disposition(0)
        tracks[1].disposition = av.stream.Disposition.default
        opened.mux(video.encode(av.VideoFrame.from_ndarray(moving_picture(0), format="rgb24")))
        for track, samples in zip(tracks, (np.zeros(16_000, np.int16), voice(1.0)), strict=True):
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            opened.mux([*track.encode(frame), *track.encode(None)])
        opened.mux(video.encode(None))
    speech, _, warnings = read(tmp_path / "a.mkv")
    assert is_voice(speech, 0)
    assert [warning.endswith("of its 2 audio streams number 2 is taken") for warning in warnings] == [True]
