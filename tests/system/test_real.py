"""The main job on real inputs: a real face, real speech, and what a player reads of it."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import write_wav
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.demo import BUNDLE
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

pytestmark = pytest.mark.slow

DETECTOR = "face_detection_yunet_2026may.onnx"


@pytest.fixture(scope="module")
def opened() -> Iterator[Bundle]:
    with Bundle.open(BUNDLE) as opened:
        yield opened


@pytest.fixture(scope="module")
def talk(opened: Bundle, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of English, said by a painting."""
    folder = tmp_path_factory.mktemp("talk")
    _write_beginning(data / "eng.wav", 8, folder / "speech.wav")
    options = PrepareOptions(face_model=data / DETECTOR)
    assert prepare_avatar(data / "monalisa.png", opened, folder / "avatar", options).faces == 1
    with (
        Avatar.open(folder / "avatar") as avatar,
        Session(opened, avatar, folder / "speech.wav", 25) as session,
        (folder / "talk.mp4").open("wb") as file,
    ):
        for piece in session.stream():
            file.write(piece)
    return folder / "talk.mp4"


def test_eight_seconds_of_speech_have_200_frames_at_exact_times(talk: Path) -> None:
    with av.open(str(talk)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert stream.codec_context.name == "h264"
        assert [packet.pts * packet.time_base * 25 for packet in packets] == list(range(200))
        assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, 200, 25))


def test_its_sound_has_the_inputs_length_and_content(talk: Path, data: Path) -> None:
    with av.open(str(talk)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        length = sum(packet.duration for packet in container.demux(stream) if packet.pts is not None)
    assert abs(length - 8 * 48_000) <= 1024
    streams = [_sound(talk), _sound(data / "eng.wav")]
    a, b = (sound[16_000 : 7 * 16_000] for sound in streams)
    assert np.corrcoef(a, b)[0, 1] > 0.95  # in step with the input, to the sample


def test_its_fragments_last_about_100_ms(talk: Path) -> None:
    assert 8 / 0.2 <= talk.read_bytes().count(b"moof") <= 8 / 0.05


def test_every_frame_decodes(talk: Path) -> None:
    with av.open(str(talk)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 200


def test_a_small_face_in_a_photo_speaks(opened: Bundle, data: Path, tmp_path: Path) -> None:
    options = PrepareOptions(face_model=data / DETECTOR)
    prepare_avatar(data / "sit.jpeg", opened, tmp_path / "avatar", options)
    _write_beginning(data / "yongen.wav", 4, tmp_path / "speech.wav")
    with Avatar.open(tmp_path / "avatar") as avatar, Session(opened, avatar, tmp_path / "speech.wav", 15) as session:
        frames = list(session.frames())
        assert len(frames) == 4 * 15
        changed = [frame for frame in frames if not np.array_equal(frame.nv12, avatar.frame(0))]
    assert len(changed) > 30


def _sound(file: Path) -> np.ndarray:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(file)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def _write_beginning(file: Path, seconds: int, to: Path) -> None:
    write_wav(to, (_sound(file)[: seconds * 16_000] * 32_767).astype(np.int16))
