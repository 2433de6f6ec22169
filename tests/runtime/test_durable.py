"""Writing that a power cut leaves as it was, or done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musetalk_runtime.storage import durable
from musetalk_runtime.storage.durable import ABANDONED_AFTER_S, point, put_folder, sweep
from musetalk_runtime.storage.folder import new_folder, read_folder

WRITER = """
import sys
from pathlib import Path
from musetalk_runtime.storage.folder import new_folder
while True:
    for content in (b"a" * 100_000, b"b" * 100_000):
        with new_folder(Path(sys.argv[1]), "thing", 1) as (work, manifest):
            (work / "one.bin").write_bytes(content)
            (work / "two.bin").write_bytes(content)
        print(flush=True)
"""


def make(path: Path, content: bytes = b"content") -> None:
    with new_folder(path, "thing", 1) as (work, _):
        (work / "data.bin").write_bytes(content)


def test_everything_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    named: list[bool] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        named.append((tmp_path / "new" / "deep" / "thing").exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    make(tmp_path / "new" / "deep" / "thing")
    before = {name for name, there in zip(synced, named, strict=True) if not there}
    after = [name for name, there in zip(synced, named, strict=True) if there]
    assert {"data.bin", "manifest.json"} <= before
    assert any(name.endswith(".partial") for name in before)
    assert {"deep", "new", tmp_path.name} <= set(after)


def test_a_folder_that_is_replaced_is_there_all_the_time(tmp_path: Path) -> None:
    """Kill a process that does nothing else: what is there is always whole, and what it left is swept later."""
    path = tmp_path / "thing"
    for k in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            for _ in range(2):
                writer.stdout.readline()
            deadline = time.monotonic() + 0.01 * k
            while time.monotonic() < deadline:
                assert path.exists()
            writer.send_signal(signal.SIGKILL)
        read_folder(path, "thing", 1)
    for left in tmp_path.iterdir():
        if left != path:
            os.utime(left, (0, 0))
    make(path)
    assert list(tmp_path.iterdir()) == [path]


def test_where_folders_cannot_be_exchanged_they_are_still_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "exchange", lambda *_: False)
    make(tmp_path / "thing", b"old")
    make(tmp_path / "thing", b"new")
    assert (tmp_path / "thing" / "data.bin").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "thing"]


def test_only_what_nobody_holds_and_is_old_is_swept(tmp_path: Path) -> None:
    names = ("held", "young", "abandoned")
    for name in names:
        (tmp_path / f"{name}.partial").mkdir()
        (tmp_path / f"{name}.partial" / "file").touch()
    for name in ("held", "abandoned"):
        os.utime(tmp_path / f"{name}.partial", (time.time() - 2 * ABANDONED_AFTER_S,) * 2)
    held = durable.hold(tmp_path / "held.partial")
    sweep(tmp_path, "*.partial")
    os.close(held)
    assert sorted(left.name for left in tmp_path.iterdir()) == ["held.partial", "young.partial"]


def test_a_link_is_switched_in_one_step_and_never_replaced_by_a_folder(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two")
    for target in ("one", "two", "one"):
        point(tmp_path / "current", target)
        assert (tmp_path / "current").readlink() == Path(target)
    make(tmp_path / "current", b"new")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "one" / "data.bin").read_bytes() == b"new"
    put_folder(tmp_path / "one", tmp_path / "three")
    assert (tmp_path / "current").is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["current", "three", "two"]
