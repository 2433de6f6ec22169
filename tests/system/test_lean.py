"""What the lean install brings: no package of the workstation's, by the lock files and as the index resolves it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from helpers.paths import ROOT

HEAVY = {"torch", "diffusers", "transformers", "onnx", "polygraphy", "tensorflow", "jax", "scipy"}
APPLIANCE = ROOT / "scripts" / "appliance"
NO_INDEX = r"error sending request|dns error|client error \(Connect\)|server error|error decoding|body error|timed out"
EXTRAS = {"cpu": {"cpu", "serve"}, "gpu": {"gpu-lean", "nvenc", "serve"}}  # what scripts/appliance/lock pins


def pinned(text: str) -> dict[str, list[tuple[str, int]]]:
    """Of a lock file: the versions of each package, for one Python or another, and how many hashes each has."""
    found: dict[str, list[tuple[str, int]]] = {}
    for entry in re.split(r"\n(?=[a-z])", text):
        name, version = re.match(r"([a-z0-9.-]+)==([^ ;\n]+)", entry).groups()  # type: ignore[union-attr]
        found.setdefault(name, []).append((version, entry.count("--hash=sha256:")))
    return found


def required(extras: set[str]) -> list[Requirement]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in [*project["dependencies"], *lines]]


@pytest.mark.parametrize("variant", EXTRAS)
def test_the_image_holds_what_the_extras_ask_for_by_hash_and_nothing_of_the_workstation(variant: str) -> None:
    lock = pinned((APPLIANCE / f"{variant}.txt").read_text())
    assert not HEAVY & lock.keys()
    assert all(hashes for versions in lock.values() for _, hashes in versions)
    for requirement in required(EXTRAS[variant]):
        name = requirement.name.lower()
        assert all(requirement.specifier.contains(version) for version, _ in lock[name]), name


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_gpus_install_resolves_to_nothing_of_the_workstation(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("uv")
    wanted = f"musetalk-edge[gpu,nvenc,serve] @ {ROOT.as_uri()}"
    platform = ["--python-platform", f"{architecture}-manylinux_2_35", "--python-version", "3.12"]
    command = [
        sys.executable,
        "-m",
        "uv",
        "--no-python-downloads",
        "pip",
        "compile",
        "-",
        "--no-header",
        "--no-annotate",
        *platform,
    ]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, cwd=tmp_path)
    if done.returncode and re.search(NO_INDEX, done.stderr):
        pytest.skip("no package index is reached")
    assert done.returncode == 0, done.stderr
    names = {re.split("[= ]", line)[0] for line in done.stdout.splitlines()}
    assert {"numpy", "av", "tensorrt", "cuda-core", "pynvvideocodec", "fastapi"} <= names
    assert not HEAVY & names
    assert len(names) < 40
