"""A package's data as files, where the package is in a zip archive."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from musetalk_runtime.storage.unpacked import unpacked


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package in an archive, with data; the cache is `tmp_path`'s."""
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for name, content in (("__init__.py", ""), ("data/a/manifest.json", "{}"), ("data/b.wav", "sound")):
            archive.writestr(f"packed_here/{name}", content)
    monkeypatch.syspath_prepend(tmp_path / "packed.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield "packed_here"
    sys.modules.pop("packed_here", None)


def test_it_is_copied_once_whole(package: str, tmp_path: Path) -> None:
    folder = unpacked(package, "data")
    assert folder.parent == tmp_path / "cache" / "musetalk-edge"
    assert (folder / "a" / "manifest.json").read_text() == "{}"
    (folder / "mark").touch()
    assert unpacked(package, "data") == folder
    assert (folder / "mark").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_other_content_is_another_copy(package: str, tmp_path: Path) -> None:
    before = unpacked(package, "data")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("packed_here/__init__.py", "")
        archive.writestr("packed_here/data/a/manifest.json", '{"other": 1}')
    sys.modules.pop(package)
    sys.path.insert(0, str(tmp_path / "other.zip"))
    try:
        assert unpacked(package, "data") != before
    finally:
        sys.path.remove(str(tmp_path / "other.zip"))


def test_without_a_cache_it_is_temporary(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = unpacked(package, "data")
    assert folder.parent.parent == tmp_path
    assert (folder / "b.wav").read_text() == "sound"


def test_what_is_not_there_is_a_path_to_nothing(package: str) -> None:
    assert not unpacked(package, "nothing").exists()
