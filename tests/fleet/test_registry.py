"""The registry of a fleet: a folder, or a store that fsspec knows."""

import json
from pathlib import Path

import pytest

from helpers.folders import edited, renewed
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder, OutputError
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.storage.folder import MANIFEST, sha256


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "fleet") if request.param == "folder" else f"memory://{tmp_path.name}/fleet")


def test_versions_are_found_by_their_hashes(registry: Registry, avatar: Path, tmp_path: Path) -> None:
    assert registry.names("avatar") == []
    assert registry.current("avatar", "anna") is None
    first = registry.publish("avatar", "anna", avatar)
    assert first == sha256(avatar / MANIFEST) == registry.current("avatar", "anna")
    second = registry.add("avatar", "anna", renewed(avatar, tmp_path / "renewed"))
    assert registry.current("avatar", "anna") == first != second
    registry.point("avatar", "anna", second)
    assert registry.current("avatar", "anna") == second
    for version in (first, second):
        with registry.fetched("avatar", "anna", version) as folder:
            assert sha256(folder / MANIFEST) == version
            names = {path.name for path in folder.iterdir()}
            assert names == {path.name for path in avatar.iterdir()}
        assert not folder.exists()
    assert registry.names("avatar") == ["anna"]
    registry.forget("avatar", "anna")
    registry.forget("avatar", "anna")
    assert registry.names("avatar") == []


def test_copies_are_for_one_avatar(registry: Registry) -> None:
    assert registry.copies("anna") is None
    registry.set_copies("anna", 3)
    assert (registry.copies("anna"), registry.copies("ben")) == (3, None)


def test_what_is_no_version_is_refused(registry: Registry, avatar: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is no bundle"):
        registry.publish("bundle", "anna", avatar)
    with pytest.raises(InvalidFolder):
        registry.publish("avatar", "anna", edited(avatar, tmp_path / "torn", MANIFEST, lambda text: text[:-9]))
    for name in ("", "..", "a/b", ".anna"):
        with pytest.raises(InvalidArgument, match="expected letters"):
            registry.current("avatar", name)
    for version in ("current", "../anna", "0" * 63):
        with pytest.raises(InvalidArgument, match="expected the SHA-256"), registry.fetched("avatar", "anna", version):
            pass
    with pytest.raises(InputNotFound), registry.fetched("avatar", "anna", "0" * 64):
        pass


@pytest.mark.parametrize("harm", ["name", "size", "content", "manifest"])
def test_what_was_changed_in_the_store_is_refused(avatar: Path, tmp_path: Path, harm: str) -> None:
    """A store that was written by somebody else leads to no file outside, and to none that is larger than told."""
    registry = Registry(str(tmp_path / "fleet"))
    version = registry.publish("avatar", "anna", avatar)
    place = tmp_path / "fleet" / "avatars" / "anna" / version
    manifest = json.loads((place / MANIFEST).read_text())
    name = next(iter(manifest["files"]))
    if harm == "name":
        manifest["files"]["../../../escaped"] = manifest["files"][name]
    elif harm == "size":
        (place / name).write_bytes(b"x" * 10_000_000)
    elif harm == "content":
        (place / name).write_bytes(b"x" * (place / name).stat().st_size)
    if harm in ("name", "manifest"):
        (place / MANIFEST).write_text(json.dumps(manifest) + " ")
    if harm == "name":
        version = sha256(place / MANIFEST)
        place.rename(place.with_name(version))
    with pytest.raises(InvalidFolder), registry.fetched("avatar", "anna", version):
        pass
    assert not list(tmp_path.glob("**/escaped"))


def test_a_store_that_fails_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file/avatars/anna"):
        Registry(str(tmp_path / "file")).set_copies("anna", 1)
    with pytest.raises(InvalidArgument, match="nosuch"):
        Registry("nosuch://x")
