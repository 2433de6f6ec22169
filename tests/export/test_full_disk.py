"""Full disks: a command that cannot write says what and why, and leaves nothing."""

import os
import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.full_disk import small_disk
from helpers.training import SMALL, options, small_checkpoint, small_shards
from musetalk_distill.train.train import train
from musetalk_export.checkpoint.preset import PRESETS, init_checkpoint
from musetalk_export.cli import main
from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.folder import new_folder

KIB = 1 << 10
WITH_DECODER = replace(SMALL, decoder={**PRESETS["demo"].decoder, "decoder_block_out_channels": [8] * 4})
NO_SPACE = "cannot be written: No space left on device"


@pytest.mark.parametrize("tree", ["musetalk", "diffusers"])
@pytest.mark.parametrize("size", [4 * KIB, 100 * KIB, 400 * KIB, 900 * KIB])
def test_init_names_its_folder(
    size: int, tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", WITH_DECODER)
    with small_disk(tmp_path / "disk", size) as disk:
        assert main(["init", "small", str(disk / "checkpoint"), "--tree", tree]) == 2
        assert list(disk.iterdir()) == []
    said = f"export-student: error: {tmp_path}/disk/checkpoint: {NO_SPACE} "
    assert re.fullmatch(rf"{re.escape(said)}\([01] MB free\)\n", capsys.readouterr().err)


def test_init_names_its_folder_where_files_may_not_grow(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for tree in ("musetalk", "diffusers"):
            with pytest.raises(OutputError, match=r"checkpoint: cannot be written: .* \(\d+ MB free\)$"):
                init_checkpoint(SMALL, tmp_path / "checkpoint", tree=tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1200 * KIB, 2500 * KIB])
def test_export_names_its_model_set(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init_checkpoint(SMALL, tmp_path / "checkpoint")
    with small_disk(tmp_path / "disk", size) as disk:
        assert main([str(tmp_path / "checkpoint"), "-o", str(disk / "new" / "set")]) == 2
        assert list(disk.iterdir()) == []
    assert capsys.readouterr().err.splitlines()[-1] == f"export-student: error: {tmp_path}/disk/new/set: {NO_SPACE}"


@pytest.mark.parametrize("size", [100 * KIB, 1000 * KIB, 1700 * KIB])
def test_a_run_names_what_it_could_not_write(size: int, tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "checkpoint")
    shards = small_shards(tmp_path / "shards", checkpoint)
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(OutputError, match=rf"^{disk}/run/.* cannot be written: .*No space left on device"):
            train(shards, disk / "run", checkpoint, options("student", steps=4, save_every=2))
        assert not (disk / "run" / "checkpoint").exists()


def test_every_folder_with_a_manifest_names_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * KIB) as disk:
        with (
            pytest.raises(OutputError, match=rf"^{disk}/thing: {NO_SPACE}$"),
            new_folder(disk / "thing", "thing", 1) as (folder, _),
        ):
            (folder / "data").write_bytes(bytes(1 << 20))
        assert list(disk.iterdir()) == []


def test_what_is_written_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        init_checkpoint(SMALL, tmp_path / "checkpoint", tree="diffusers")
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode)[-3:] for file in tmp_path.rglob("*.*")} == {"640"}


def test_init_shows_no_progress_of_libraries(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    init_checkpoint(SMALL, tmp_path / "checkpoint", tree="diffusers")
    assert capfd.readouterr().err == ""
