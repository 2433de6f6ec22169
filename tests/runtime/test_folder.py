"""Folders with a manifest: what is checked on reading, what is left after an error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder
from musetalk_runtime.storage.folder import MANIFEST, MAX_MANIFEST_BYTES, new_folder, read_folder

Edit = Callable[[dict], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "thing", b"content")
    return tmp_path / "thing"


def make(path: Path, content: bytes, kind: str = "thing") -> None:
    with new_folder(path, kind, 1) as (work, manifest):
        (work / "data.bin").write_bytes(content)
        manifest["note"] = "kept"


def edit(folder: Path, change: Edit) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path) -> None:
    manifest = read_folder(folder, "thing", 1)
    assert manifest["note"] == "kept"
    assert manifest["files"]["data.bin"]["bytes"] == 7
    assert oct(folder.stat().st_mode)[-3:] == "755"


def test_one_flipped_byte_is_found_and_named(folder: Path) -> None:
    (folder / "data.bin").write_bytes(b"contenu")
    with pytest.raises(InvalidFolder, match=r"data\.bin: its content does not match the hash"):
        read_folder(folder, "thing", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), r"has schema 2, this version .* reads 1: make it again"),
        (lambda m: m.update(kind="other"), "expected a thing, found 'other'"),
        (lambda m: m.pop("files"), "lists no files"),
        (lambda m: m["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": ""}}), "no plain file name"),
        (lambda m: m["files"].update({"gone.bin": {"bytes": 1, "sha256": ""}}), r"gone\.bin: named in the manifest"),
        (lambda m: m["files"].update({"data.bin": 5}), "has no size or no hash"),
        (lambda m: m["files"]["data.bin"].update(bytes=8), r"data\.bin: 7 bytes, the manifest says 8"),
    ],
)
def test_a_manifest_that_is_off_says_where(folder: Path, change: Edit, message: str) -> None:
    edit(folder, change)
    with pytest.raises(InvalidFolder, match=message):
        read_folder(folder, "thing", 1)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "[]", "3", "\xff\xfe", "{}"])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(InvalidFolder):
        read_folder(folder, "thing", 1)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(InvalidFolder, match="a manifest has at most"):
        read_folder(folder, "thing", 1)


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"content")
    (folder / "data.bin").unlink()
    (folder / "data.bin").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidFolder, match="missing"):
        read_folder(folder, "thing", 1)


def test_nothing_there_and_something_else_there(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such thing"):
        read_folder(tmp_path / "thing", "thing", 1)
    with pytest.raises(InvalidFolder, match="not a thing"):
        read_folder(tmp_path, "thing", 1)


def test_an_error_leaves_nothing_not_even_new_parents(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half way"), new_folder(tmp_path / "a" / "b", "thing", 1):
        raise ValueError("half way")
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_of_the_same_kind_is_replaced_whole(folder: Path) -> None:
    make(folder, b"new")
    assert (folder / "data.bin").read_bytes() == b"new"
    assert [file.name for file in folder.parent.iterdir()] == ["thing"]


def test_an_older_folder_survives_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="half way"), new_folder(folder, "thing", 1):
        raise ValueError("half way")
    read_folder(folder, "thing", 1)
    assert [file.name for file in folder.parent.iterdir()] == ["thing"]


def test_anything_else_is_never_replaced(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "diary", tmp_path / "file"):
        with pytest.raises(InvalidArgument, match="exists and is no thing"):
            make(path, b"")
    with pytest.raises(InvalidArgument, match="exists and is no other"):
        make(folder, b"", kind="other")
    assert (tmp_path / "diary" / "monday.txt").read_text() == "dear diary"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    make(tmp_path / "thing", b"content")
    read_folder(tmp_path / "thing", "thing", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "thing"]
