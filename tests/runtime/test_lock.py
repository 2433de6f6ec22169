"""Locked work folders, which go when they are no longer needed."""

import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.storage.lock import lock_folder


def test_a_folder_is_locked_until_its_file_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with lock_folder(folder, "it is used"), pytest.raises(InvalidArgument, match="it is used by another process"):
        lock_folder(folder, "it is used")
    lock_folder(folder, "it is used").close()


@pytest.mark.parametrize("before", ["open", "flock"])
def test_a_folder_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """As by whoever had locked it, at its end: else two could hold locks, one of which lies in no folder."""
    folder = tmp_path / "work"
    module, name = {"open": (Path, "open"), "flock": (fcntl, "flock")}[before]
    work, calls = getattr(module, name), []

    def removed_first(*given: Any) -> Any:
        calls.append(name)
        if len(calls) == 1:
            shutil.rmtree(folder)
        return work(*given)

    monkeypatch.setattr(module, name, removed_first)
    with lock_folder(folder, "it is used"), pytest.raises(InvalidArgument, match="it is used by another process"):
        lock_folder(folder, "it is used")
    assert len(calls) == 3
