"""Shards: what is written is what is read, and nothing that a manifest must not say is believed."""

import dataclasses
import json
import pickle
import resource
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.clips import SPEC, make_clip
from helpers.media import voice, write_wav
from musetalk_distill.shards.shards import SHARDS_KIND, Shards, window_start, write_shards
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech import SpeechFrames
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder, OutputError
from musetalk_runtime.storage.folder import sha256

CLIPS = [
    make_clip("a/talk.mp4-0", seed=1),
    make_clip("b-0", "val", 7, seed=2),
    make_clip("Ωmega 1.mkv-0", seed=3),
    make_clip("c-0", frames=1, seed=4),
]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(tmp_path / "shards", SPEC, CLIPS, extra={"audio_encoder_id": "1" * 64})
    return tmp_path / "shards"


def test_what_is_written_is_read(shards: Path) -> None:
    opened = Shards.open(shards)
    assert opened.spec == SPEC
    assert opened.manifest["audio_encoder_id"] == "1" * 64
    assert [clip.id for clip in opened.clips("train")] == ["a/talk.mp4-0", "Ωmega 1.mkv-0", "c-0"]
    assert [clip.id for clip in opened.clips("val")] == ["b-0"]
    for entry, expected in CLIPS:
        clip = next(clip for clip in opened.clips(entry.split) if clip.id == entry.id)
        assert (clip.speaker, clip.frames, clip.fps) == (entry.speaker, entry.frames, Fraction(25))
        found = opened.tensors(clip)
        assert [name for name, _ in found.items()] == [name for name, _ in expected.items()]
        for (_, array), (_, value) in zip(found.items(), expected.items(), strict=True):
            np.testing.assert_array_equal(array, value)
            assert array.dtype == value.dtype
    with pytest.raises(InvalidArgument, match="split='test'"):
        opened.clips("test")


def test_shards_travel_to_other_processes(shards: Path) -> None:
    opened = pickle.loads(pickle.dumps(Shards.open(shards)))  # noqa: S301
    clip = opened.clips("val")[0]
    np.testing.assert_array_equal(opened.tensors(clip).latents, CLIPS[1][1].latents)


def test_tensors_are_mapped_not_read(tmp_path: Path) -> None:
    frames = 20_000
    write_shards(tmp_path / "shards", SPEC, [make_clip("long", frames=frames)])
    opened = Shards.open(tmp_path / "shards")
    before = resident()
    found = opened.tensors(opened.clips("train")[0])
    assert found.nbytes > 6e6
    assert resident() - before < 2e6
    assert np.isfinite(found.latents[frames // 2]).all()
    assert resident() - before < 3e6


def test_a_full_shard_is_followed_by_another(tmp_path: Path) -> None:
    size = CLIPS[0][1].nbytes
    clips = [make_clip(f"{split}{k}", split, seed=k) for k in range(5) for split in ("train", "val")]
    listed = write_shards(tmp_path / "shards", SPEC, clips, shard_bytes=2 * size)
    assert [clip.file for clip in listed if clip.split == "train"] == [
        *["train-00000.safetensors"] * 2,
        *["train-00001.safetensors"] * 2,
        "train-00002.safetensors",
    ]
    assert len({clip.file for clip in listed if clip.split == "val"}) == 5  # each larger than a shard is to be
    opened = Shards.open(tmp_path / "shards")
    for clip, (_, tensors) in zip(opened.clips("train"), clips[::2], strict=True):
        np.testing.assert_array_equal(opened.tensors(clip).states, tensors.states)


@pytest.mark.parametrize("fps", [25, 15])
def test_a_window_starts_where_the_runtimes_does(fps: int, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice(2.0))

    def encode(mel: np.ndarray, rows: slice) -> np.ndarray:
        """States that tell their number, from 1 on."""
        numbers = np.arange(1, mel.shape[1] // 2 + 1, dtype=np.float32)[rows]
        return np.broadcast_to(numbers[:, None, None], (len(numbers), SPEC.audio_states, SPEC.audio_width))

    frames = list(SpeechFrames(AudioFile(tmp_path / "a.wav"), encode, SPEC, Fraction(fps), 2.0))
    assert len(frames) == 2 * fps
    for frame in frames:
        start = window_start(frame.index, Fraction(fps), SPEC)
        numbers = np.arange(start + 1, start + 1 + SPEC.window_steps)
        expected = np.where((numbers > 0) & (numbers <= 100), numbers, 0)
        assert frame.tokens.reshape(SPEC.window_steps, -1)[:, 0].tolist() == expected.tolist()


def test_a_clip_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    entry, tensors = make_clip("a", "val")
    wrong: list[tuple[Any, Any, str]] = [
        (entry, dataclasses.replace(tensors, latents=tensors.latents[:-1]), "a.latents is float16"),
        (entry, dataclasses.replace(tensors, states=tensors.states.astype(np.float32)), "a.states is float32"),
        (entry, dataclasses.replace(tensors, states=tensors.states[:-1]), "expected float16 [14, 3, 8]"),
        (entry, dataclasses.replace(tensors, images_at=None), "go together"),
        (entry, dataclasses.replace(tensors, images_at=np.array([0, 5], np.int32)), "outside [0, 5)"),
        (dataclasses.replace(entry, split="test"), tensors, "split 'test'"),
    ]
    for one, other, message in wrong:
        with pytest.raises(InvalidArgument) as caught:
            write_shards(tmp_path / "shards", SPEC, [(one, other)])
        assert message in str(caught.value)
    with pytest.raises(InvalidArgument, match="comes twice"):
        write_shards(tmp_path / "shards", SPEC, [(entry, tensors)] * 2)
    with pytest.raises(InvalidArgument, match="no clips"):
        write_shards(tmp_path / "shards", SPEC, [])
    assert list(tmp_path.iterdir()) == []


def test_a_person_in_both_splits_is_neither_written_nor_read(shards: Path) -> None:
    (one, tensors), (other, shown) = make_clip("a-0"), make_clip("b-0", "val")
    other = dataclasses.replace(other, speaker=one.speaker)
    with pytest.raises(InvalidArgument, match=f'{one.speaker} has clips in "train" and in "val"'):
        write_shards(shards.parent / "other", SPEC, [(one, tensors), (other, shown)])
    assert not (shards.parent / "other").exists()
    manifest = json.loads((shards / "manifest.json").read_text())
    for clip in manifest["clips"]:
        clip["speaker"] = "Ann"
    (shards / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidFolder, match=r'Ann has clips in "train" and in "val".*prepare the shards again'):
        Shards.open(shards)


def test_more_clips_than_a_manifest_lists(tmp_path: Path) -> None:
    most = (1 << 20) + 2000
    clips = [make_clip(f"{k}") for k in range(50)]
    with pytest.raises(InvalidArgument, match="50 clips would make a manifest of"):
        write_shards(tmp_path / "shards", SPEC, clips, max_manifest_bytes=most)
    assert list(tmp_path.iterdir()) == []


def test_an_array_may_lie_in_memory_in_any_way(tmp_path: Path) -> None:
    entry, tensors = make_clip("a")
    swapped = np.asfortranarray(tensors.latents)
    write_shards(tmp_path / "shards", SPEC, [(entry, dataclasses.replace(tensors, latents=swapped))])
    opened = Shards.open(tmp_path / "shards")
    np.testing.assert_array_equal(opened.tensors(opened.clips("train")[0]).latents, tensors.latents)


def test_older_shards_are_replaced_and_nothing_else(shards: Path, tmp_path: Path) -> None:
    write_shards(shards, SPEC, CLIPS[:1])
    assert len(Shards.open(shards).clips("train")) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InvalidArgument, match=f"no {SHARDS_KIND}"):
        write_shards(tmp_path / "other", SPEC, CLIPS)


def test_without_room_nothing_is_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_shards(tmp_path / "shards", SPEC, CLIPS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "../train-00000.safetensors"),
        ("file", "/etc/passwd"),
        ("file", "val-00001.safetensors"),
        ("file", None),
        ("frames", 0),
        ("frames", 1e3),
        ("frames", 1 << 40),
        ("frames", "5"),
        ("fps", "0"),
        ("fps", "1/0"),
        ("fps", 25),
        ("fps", "nan"),
        ("split", "test"),
        ("id", ""),
        ("id", "a\nb"),
        ("id", "b-0"),
        ("speaker", ["a"]),
        ("more", 1),
    ],
)
def test_a_clip_that_the_manifest_must_not_list(field: str, value: Any, shards: Path) -> None:
    change(shards, lambda manifest: manifest["clips"][0].update({field: value}))
    with pytest.raises(InvalidFolder, match=r"manifest\.json"):
        Shards.open(shards)


@pytest.mark.parametrize("clips", [None, [], {}, "clips", [1], [[]], [None]])
def test_a_manifest_without_clips(clips: Any, shards: Path) -> None:
    change(shards, lambda manifest: manifest.update(clips=clips))
    with pytest.raises(InvalidFolder, match=r"manifest\.json"):
        Shards.open(shards)


@pytest.mark.parametrize(
    ("change_it", "message"),
    [
        (lambda manifest: manifest.update(schema=2), "schema 2"),
        (lambda manifest: manifest.update(kind="avatar"), "expected a shards"),
        (lambda manifest: manifest.update(model={}), "'model' must hold"),
        (lambda manifest: manifest["files"].update({"../x": {}}), "no plain file name"),
        (lambda manifest: manifest["files"]["val-00000.safetensors"].update(sha256="0" * 64), "does not match"),
    ],
)
def test_a_manifest_that_is_refused(change_it: Any, message: str, shards: Path) -> None:
    change(shards, change_it)
    with pytest.raises(InvalidFolder, match=message):
        Shards.open(shards)


def test_there_are_no_shards(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such shards"):
        Shards.open(tmp_path / "shards")


@pytest.mark.parametrize(
    ("change_it", "message"),
    [
        (lambda manifest: manifest["clips"][0].update(frames=6), r"latents is float16 \[5, 4, 4, 4\], expected"),
        (lambda manifest: manifest["clips"][0].update(fps="50"), "states is"),
        (lambda manifest: manifest["clips"][0].update(id="unknown"), "clip unknown cannot be read"),
        (lambda manifest: manifest["model"].update(latent_size=8), "latents is"),
    ],
)
def test_tensors_other_than_the_manifest_says(change_it: Any, message: str, shards: Path) -> None:
    change(shards, change_it)
    opened = Shards.open(shards)
    with pytest.raises(InvalidFolder, match=message):
        opened.tensors(opened.clips("train")[0])


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0{", None], ids=["empty", "ff", "cut", "half"]
)
def test_a_file_that_is_no_shard(content: bytes | None, shards: Path) -> None:
    file = shards / "train-00000.safetensors"
    file.write_bytes(file.read_bytes()[:2000] if content is None else content)
    entry = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    change(shards, lambda manifest: manifest["files"].update({file.name: entry}))
    opened = Shards.open(shards)
    with pytest.raises(InvalidFolder, match="cannot be read"):
        opened.tensors(opened.clips("train")[0])


def change(folder: Path, change_it: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change_it(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
