"""A checkpoint of random weights in MuseTalk's tree, and copies of it to change."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from musetalk_export.checkpoint.preset import PRESETS, init_checkpoint

TINY = PRESETS["tiny"]
USUAL = replace(TINY, unet={**TINY.unet, "sample_size": 32}, vae={**TINY.vae, "sample_size": 256})  # of 256x256 faces


@pytest.fixture(scope="session")
def musetalk_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with faces of the usual size, so that reading it logs nothing."""
    path = tmp_path_factory.mktemp("checkpoint") / "musetalk"
    init_checkpoint(USUAL, path)
    return path


@pytest.fixture
def copied(musetalk_tree: Path, tmp_path: Path) -> Path:
    """A copy to change or break."""
    return shutil.copytree(musetalk_tree, tmp_path / "checkpoint")
