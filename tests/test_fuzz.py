"""A moment of scripts/fuzz, always the same, and what it has found."""

import io
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings

from conftest import voice, write_wav
from fuzz_readers import Readers, targets

EXAMPLES = {"manifest": 12, "avatar": 10, "bundle": 6, "wav": 60, "wav-bytes": 30, "pcm": 20, "opus": 60}


@pytest.fixture(scope="module")
def readers(bundle: Path, avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Readers:
    work = tmp_path_factory.mktemp("fuzz")
    write_wav(work / "voice.wav", voice(0.12))
    return Readers(work, bundle, avatar, work / "voice.wav", ogg_opus())


def ogg_opus() -> bytes:
    """Half a second of speech."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(0.5, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", EXAMPLES)
def test_there_is_a_result_or_an_error_of_ours(readers: Readers, name: str) -> None:
    read, given_to = targets(readers)[name]
    checks = list(HealthCheck)
    options = settings(
        max_examples=EXAMPLES[name], derandomize=True, deadline=None, database=None, suppress_health_check=checks
    )
    options(given(**given_to)(read))()


def test_what_is_not_spoilt_is_read(readers: Readers) -> None:
    for read in (
        lambda: readers.manifest(0, [], []),
        lambda: readers.manifest(1, [], []),
        lambda: readers.avatar_file("frames.mp4", []),
        lambda: readers.bundle_file("generator.onnx", []),
        lambda: readers.wav((1, 1, 16000, 16, b"ab" * 1000), []),
        lambda: readers.wav_bytes([]),
        lambda: readers.pcm([voice(0.1).tobytes()]),
        lambda: readers.opus([], [100, 1, 1000]),
    ):
        readers.outcomes.clear()
        read()
        assert readers.outcomes == {"read": 1}
    readers.manifest(1, [], [(0.0, "cut", b"{")])
    readers.wav_bytes([(0.0, "cut", b"RIFF")])
    assert readers.outcomes == {"read": 1, "refused": 2}
