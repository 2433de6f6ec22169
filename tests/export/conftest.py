"""A checkpoint of random weights in MuseTalk's tree, and copies of it to change."""

import shutil
from pathlib import Path

import pytest

from musetalk_export.checkpoint.preset import init_checkpoint


@pytest.fixture(scope="session")
def musetalk_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "musetalk"
    init_checkpoint("tiny", path)
    return path


@pytest.fixture
def copied(musetalk_tree: Path, tmp_path: Path) -> Path:
    """A copy to change or break."""
    return shutil.copytree(musetalk_tree, tmp_path / "checkpoint")
