"""Which files in a folder are a model's weights: shards and their index, Git LFS pointers, regular files alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.graphs import assert_refused
from helpers.weights import LFS_POINTER, assert_same, edit_config, load, save_index, save_shards
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_runtime.core.errors import InvalidCheckpoint

INDEX = "diffusion_pytorch_model.safetensors.index.json"


def shards_of(copied: Path, total: int, change: float = 0.0, stem: str = "diffusion_pytorch_model") -> dict[str, str]:
    """The UNet's weights, each `change` larger, as shards in a folder without a whole file."""
    whole = copied.parent / "unet.pth"
    if not whole.exists():
        (copied / "student" / "unet.pth").rename(whole)
        (copied / "student" / "unet.json").rename(copied / "student" / "config.json")
    weights = {name: tensor + change for name, tensor in load(whole).items()}
    return save_shards(copied / "student", weights, total, stem)


def test_an_index_says_which_shards_are_read(musetalk_tree: Path, copied: Path) -> None:
    shards_of(copied, 2, change=1)  # older ones, which nobody removed
    save_index(copied / "student" / INDEX, shards_of(copied, 3))
    assert_same(copied, musetalk_tree)


def test_an_index_says_from_which_shard_a_tensor_is_read(musetalk_tree: Path, copied: Path) -> None:
    places = shards_of(copied, 2)
    first, second = sorted(set(places.values()))
    file = copied / "student" / second
    kept = load(copied.parent / "unet.pth")
    own = [name for name, place in places.items() if place == second]
    save_file({name: tensor + (name not in own) for name, tensor in kept.items()}, file)
    save_index(copied / "student" / INDEX, places)
    assert_same(copied, musetalk_tree)
    assert first != second


def test_shards_in_fp32_and_fp16_have_an_index_each(musetalk_tree: Path, copied: Path) -> None:
    places = shards_of(copied, 2)
    half = shards_of(copied, 2, change=1, stem="diffusion_pytorch_model.fp16")
    save_index(copied / "student" / INDEX, places)
    save_index(copied / "student" / INDEX.replace(".index", ".index.fp16"), half)
    assert_same(copied, musetalk_tree)
    (copied / "student" / INDEX).unlink()
    with pytest.raises(AssertionError, match="conv_in"):
        assert_same(copied, musetalk_tree)


def test_an_index_beside_a_whole_file_is_followed_and_told(
    musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_index(copied / "student" / INDEX, shards_of(copied, 2))
    stale = {name: tensor + 1 for name, tensor in load(copied.parent / "unet.pth").items()}
    save_file(stale, copied / "student" / "diffusion_pytorch_model.safetensors")
    assert_same(copied, musetalk_tree)
    assert f"{INDEX} and its shards are read, and not diffusion_pytorch_model.safetensors" in caplog.text


def test_shards_without_an_index_are_one_set_and_whole(musetalk_tree: Path, copied: Path) -> None:
    shards_of(copied, 2)
    assert_same(copied, musetalk_tree)
    shards_of(copied, 3)
    with pytest.raises(InvalidCheckpoint, match=r"2 sets.*model-\*-of-00002\.safetensors and .*model-\*-of-00003\."):
        read_checkpoint(copied)
    for file in (copied / "student").glob("*-of-00002*"):
        file.rename(file.with_name(file.name.replace("model-", "model.fp16-").replace("00002", "00003")))
    with pytest.raises(InvalidCheckpoint, match=r"model-\*-of-00003\.safetensors and .*model\.fp16-\*-of-00003\."):
        read_checkpoint(copied)


def test_a_shard_that_is_missing_or_holds_what_another_has(copied: Path) -> None:
    shards_of(copied, 3)
    second = copied / "student" / "diffusion_pytorch_model-00002-of-00003.safetensors"
    second.unlink()
    with pytest.raises(InvalidCheckpoint, match=r"of the 3 shards of .* there are 2, and number 2 is missing"):
        read_checkpoint(copied)
    save_file(load(copied.parent / "unet.pth"), second)
    with pytest.raises(InvalidCheckpoint, match=r"weights are in another shard too \(.*\.\.\.\)"):
        read_checkpoint(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda places: {**places, "conv_in.weight": "../../unet.pth"}, ["'../../unet.pth' is no name of a file"]),
        (lambda places: {**places, "conv_in.weight": "/dev/zero"}, ["'/dev/zero' is no name of a file"]),
        (lambda places: {**places, "conv_in.weight": ".."}, ["'..' is no name of a file"]),
        (lambda places: {**places, "conv_in.weight": "a\0b"}, ["is no name of a file"]),
        (lambda places: {**places, "conv_in.weight": 7}, ["7 is no name of a file"]),
        (lambda places: {**places, "conv_in.weight": "fifo.safetensors"}, ["fifo.safetensors: a FIFO"]),
        (lambda places: {**places, "conv_in.weight": "gone.safetensors"}, ["1 are missing (gone.safetensors)"]),
        (lambda places: {**places, "other": places["conv_in.weight"]}, ["1 weights missing that", "(other)"]),
        (
            lambda places: {name: place for name, place in places.items() if "conv_in" not in name},
            ["2 weights missing"],
        ),
        (lambda _: {f"{k}": f"{k}.safetensors" for k in range(2000)}, ["2000 shards, expected at most 1000"]),
        (lambda _: [], ["no index of shards"]),
        (lambda _: {str(k): "x" * 100 for k in range(20_000)}, ["a model's config has at most"]),
    ],
)
def test_an_index_that_is_wrong_or_hostile(
    change: Callable[[Any], Any], words: list[str], copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = shards_of(copied, 2)
    os.mkfifo(copied / "student" / "fifo.safetensors")
    save_index(copied / "student" / INDEX, change(places))
    assert_refused(capsys, [str(copied)], tmp_path / "set", *words)


def test_shards_of_pytorch_with_an_index(musetalk_tree: Path, copied: Path) -> None:
    folder = copied / "whisper"
    weights = load(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").unlink()
    places = {}
    for number, names in enumerate((sorted(weights)[:20], sorted(weights)[20:]), start=1):
        torch.save({name: weights[name] for name in names}, folder / f"pytorch_model-{number:05}-of-00002.bin")
        places |= dict.fromkeys(names, f"pytorch_model-{number:05}-of-00002.bin")
    save_index(folder / "pytorch_model.bin.index.json", places)
    assert_same(copied, musetalk_tree)


@pytest.mark.parametrize("pointer", ["student/unet.pth", "student/unet.json", "sd-vae/config.json"])
def test_a_git_lfs_pointer_is_named(
    pointer: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / pointer).write_text(LFS_POINTER)
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{pointer}: a Git LFS pointer", "'git lfs pull'")
    if pointer.endswith(".pth"):
        arguments = [str(copied), "--unet", str(copied / pointer)]
        assert_refused(capsys, arguments, tmp_path / "set", f"{pointer}: a Git LFS pointer", "'git lfs pull'")


def test_good_weights_beside_a_git_lfs_pointer_are_read(
    musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copied / "whisper" / "model.safetensors").write_text(LFS_POINTER)
    (copied / "sd-vae" / "one-00001-of-00002.safetensors").write_text(LFS_POINTER)
    (copied / "sd-vae" / "one-00002-of-00002.safetensors").write_text(LFS_POINTER)
    assert_same(copied, musetalk_tree)
    assert "pytorch_model.bin is read: model.safetensors is only a Git LFS pointer" in caplog.text


@pytest.mark.parametrize("file", ["student/unet.pth", "student/unet.json", "whisper/config.json"])
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device", "a link that leads nowhere"])
def test_what_is_no_regular_file(
    kind: str, file: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = copied / file
    place.unlink()
    if kind == "a FIFO":
        os.mkfifo(place)
    elif kind == "a folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero" if kind == "a device" else "nowhere")
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{file}: ", kind)


def test_a_link_to_a_regular_file_is_one(musetalk_tree: Path, copied: Path) -> None:
    """As the cache of huggingface_hub has them."""
    for file in ("student/unet.pth", "sd-vae/config.json"):
        moved = (copied / file).rename(copied.parent / Path(file).name)
        (copied / file).symlink_to(moved)
    assert_same(copied, musetalk_tree)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_two_files_that_could_be_the_weights(
    suffix: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "student" / "unet.pth").rename(copied / "student" / f"one.{suffix}")
    (copied / "student" / f"two.{suffix}").write_bytes(b"other")
    words = [f"student: 2 files fit *.{suffix} (one.{suffix}, two.{suffix}): leave one"]
    assert_refused(capsys, [str(copied)], tmp_path / "set", *words)


def test_a_file_of_another_kind_is_named_where_weights_are_missing(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "student" / "unet.pth").rename(copied / "student" / "unet.ckpt")
    assert_refused(capsys, [str(copied)], tmp_path / "set", "student: no weights: found unet.ckpt; expected ")


def test_a_web_page_in_place_of_weights(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "student" / "unet.pth").write_text("\n<!DOCTYPE html>\n<html>Sign in</html>")
    assert_refused(capsys, [str(copied)], tmp_path / "set", "student/unet.pth: a web page")


def test_openais_whisper_is_named_with_the_cure(
    musetalk_tree: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whisper = copied / "whisper"
    weights = load(whisper / "pytorch_model.bin")
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": weights}, whisper / "tiny.pt")
    assert_same(copied, musetalk_tree)  # which has the other's files too
    words = ["OpenAI's own format", "huggingface.co/openai/whisper-tiny"]
    (whisper / "tiny.pt").rename(whisper / "pytorch_model.bin")
    assert_refused(capsys, [str(copied)], tmp_path / "set", "whisper/pytorch_model.bin", *words)
    (whisper / "pytorch_model.bin").rename(whisper / "tiny.pt")
    (whisper / "config.json").unlink()
    assert_refused(capsys, [str(copied)], tmp_path / "set", "whisper: no weights: tiny.pt is", *words)


def test_a_tree_with_two_unets_says_which_it_took(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copied / "student").rename(copied / "musetalk")
    read_checkpoint(copied)
    assert caplog.text == ""
    (copied / "musetalkV15").mkdir()
    for file in (copied / "musetalk").iterdir():
        (copied / "musetalkV15" / file.name).write_bytes(file.read_bytes())
    read_checkpoint(copied)
    assert "musetalkV15 is read, and not what is in musetalk beside it" in caplog.text


def test_faces_of_another_size_are_told(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_config(copied / "sd-vae" / "config.json", sample_size=64)
    assert read_checkpoint(copied).spec.image_size == 64
    assert "sd-vae/config.json: faces of 64x64; MuseTalk's are 256x256" in caplog.text
