"""A moment of scripts/faults/fuzz, always the same, and what it has found."""

import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings

from helpers.fuzz_readers import Readers, targets
from helpers.media import voice, write_wav
from helpers.media_samples import AUDIO, picture_samples
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.core.errors import InvalidFolder, MachineError
from musetalk_runtime.storage.folder import MANIFEST

pytestmark = pytest.mark.slow

EXAMPLES = {
    "manifest": 12,
    "avatar": 10,
    "bundle": 6,
    "wav": 60,
    "wav-bytes": 30,
    "audio": 60,
    "picture": 60,
    "pcm": 20,
    "opus": 60,
}


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


FOUND: dict[str, list[dict[str, Any]]] = {
    "wav": [
        {"form": (0, 1, 16000, 16, b""), "extra": []},  # a codec that is unknown
        {"form": (1, 1, 0x7FFFFFFF, 16, b"\0\0"), "extra": []},  # a resampler that takes all memory
        {"form": (1, 1, 1, 8, b"\x80" * 2000), "extra": []},  # half an hour in 2 kB
    ],
    "avatar": [{"name": "has_face.npy", "edited": [(0.6875, "put", b"\0\0")]}],  # an error of Python's tokenizer
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, found in FOUND.items() for n in range(len(found))])
def test_what_was_found_is_refused(readers: Readers, name: str, number: int) -> None:
    readers.outcomes.clear()
    targets(readers)[name][0](**FOUND[name][number])
    assert readers.outcomes == {"refused": 1}


@pytest.mark.parametrize(("name", "value"), [("audio_seconds", 125), ("mel_bins", 1 << 40), ("latent_size", 32.0)])
def test_sizes_that_no_model_has_are_refused(bundle: Path, tmp_path: Path, name: str, value: float) -> None:
    """They were used: arrays of any size were made, or ONNX Runtime's own errors came through."""
    spoilt = shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((spoilt / MANIFEST).read_text())
    manifest["model"][name] = value
    (spoilt / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidFolder, match=f"model {name} is"):
        Bundle.open(spoilt)


def test_graphs_that_do_not_fit_their_manifest_are_an_error_of_ours(readers: Readers, tmp_path: Path) -> None:
    spoilt = shutil.copytree(readers.bundle, tmp_path / "bundle")
    manifest = json.loads((spoilt / MANIFEST).read_text())
    manifest["model"]["audio_seconds"] = 60
    (spoilt / MANIFEST).write_text(json.dumps(manifest))
    with (
        Bundle.open(spoilt) as bundle,
        Avatar.open(readers.avatar) as avatar,
        Session(bundle, avatar, readers.voice) as session,
        pytest.raises(MachineError, match=r"audio_encoder\.onnx: ONNX Runtime cannot run it"),
    ):
        next(session.frames())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", EXAMPLES)
def test_there_is_a_result_or_an_error_of_ours(readers: Readers, name: str) -> None:
    read, given_to = targets(readers)[name]
    checks = list(HealthCheck)
    options = settings(
        max_examples=EXAMPLES[name], derandomize=True, deadline=None, database=None, suppress_health_check=checks
    )
    options(given(**given_to)(read))()


def test_tags_of_an_avatars_video_may_be_in_any_encoding(readers: Readers) -> None:
    """PyAV decodes tags, and raised UnicodeDecodeError."""
    readers.outcomes.clear()
    readers.avatar_file("frames.mp4", [(0.015625, "put", b"\x80")])
    assert readers.outcomes == {"read": 1}


def test_what_is_not_spoilt_is_read(readers: Readers) -> None:
    for read in (
        lambda: readers.manifest(0, [], []),
        lambda: readers.manifest(1, [], []),
        lambda: readers.avatar_file("frames.mp4", []),
        lambda: readers.bundle_file("generator.onnx", []),
        lambda: readers.wav((1, 1, 16000, 16, b"ab" * 1000), []),
        lambda: readers.wav_bytes([]),
        *(partial(readers.audio, name, [], 1) for name in AUDIO),
        *(partial(readers.picture, name, []) for name in picture_samples()),
        lambda: readers.pcm([voice(0.1).tobytes()]),
        lambda: readers.opus([], [100, 1, 1000]),
    ):
        readers.outcomes.clear()
        read()
        assert readers.outcomes == {"read": 1}
    readers.manifest(1, [], [(0.0, "cut", b"{")])
    readers.wav_bytes([(0.0, "cut", b"RIFF")])
    assert readers.outcomes == {"read": 1, "refused": 2}
