"""The wheel of this checkout, and the appliance's image."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.appliance import build, unpacked
from helpers.made_once import made_once
from helpers.paths import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        clean = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests")
        shutil.copytree(ROOT, folder / "source", ignore=clean)
        shutil.rmtree(folder / "source" / "demo", ignore_errors=True)  # what scripts/demo made
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        build.append(str(folder / "source"))
        done = subprocess.run(build, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return next(made_once(tmp_path_factory, "wheel", make).glob("*.whl"))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("appliance") / "image"
    build(folder)
    return folder


@pytest.fixture(scope="session")
def root(image: Path) -> Path:
    return unpacked(image)
