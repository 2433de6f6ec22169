"""The wheel, installed and run outside the checkout; what importing the runtime costs; the version."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import musetalk_runtime
from helpers.modules import loaded_modules
from helpers.paths import ROOT

pytestmark = pytest.mark.slow

HEAVY = ["torch", "diffusers", "transformers", "onnx", "polygraphy", "tensorrt", "cuda", "onnxruntime", "cv2", "av"]


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for source in ("export", "engines", "runtime"):
        files = [file for file in (ROOT / source).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        assert len(files) > 5
        missing = {str(file.relative_to(ROOT / source)) for file in files} - packed
        assert not missing
    assert any(name.endswith("licenses/LICENSE") for name in packed)


def test_the_wheel_runs_outside_the_checkout(wheel: Path, bundle: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{sysconfig.get_path('purelib')}"}
    for command in ("distill-student", "export-student", "build-engines", "musetalk-edge"):
        done = subprocess.run(
            [sys.executable, "-S", str(site / "bin" / command), "--help"],
            env=environment, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert command in done.stdout
    done = subprocess.run(
        [sys.executable, "-S", str(site / "bin" / "musetalk-edge"), "bench", "-b", str(bundle), "--seconds", "1"],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where = [sys.executable, "-S", "-c", "import musetalk_runtime.session as s; print(s.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(site))


def test_importing_the_runtime_pulls_in_nothing_heavy() -> None:
    assert loaded_modules("import musetalk_runtime", HEAVY) == []


def test_using_the_runtime_pulls_in_no_training_or_export_package() -> None:
    imports = "import musetalk_runtime.cli.main, musetalk_runtime.diagnostics.bench; from musetalk_runtime import *"
    assert loaded_modules(imports, ["torch", "diffusers", "transformers", "onnx", "polygraphy"]) == []


def test_the_changelog_begins_with_this_version() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0].split()[1] == musetalk_runtime.__version__
