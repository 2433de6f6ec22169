"""``musetalk-edge provision``: whatever is on a device's disk, a face speaks after it."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.device_states import STATES, flipped, write_two_versions
from helpers.processes import BUILD, EDGE
from helpers.service_client import until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.cli.main import main
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.update.versions import Versions

pytestmark = pytest.mark.slow

HELD = """
import fnmatch, sys, time
held, moment, *arguments = sys.argv[1:]
def hold(event, given):
    if event in ("open", "os.mkdir") and fnmatch.fnmatch(str(given[0]), moment):
        open(held, "w").close()
        time.sleep(600)
sys.addaudithook(hold)
from musetalk_runtime.cli.main import main
raise SystemExit(main(arguments))
"""  # the command, which comes as far as the moment at which it makes a certain file or folder


@pytest.fixture
def image(bundle: Path, avatar: Path, tmp_path: Path) -> Path:
    """What the image of a device without a GPU brings."""
    folder = tmp_path / "image"
    (folder / "avatars").mkdir(parents=True)
    (folder / "cpu.bundle").symlink_to(bundle)
    (folder / "avatars" / "anna").symlink_to(avatar)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def provision(state: Path, image: Path) -> list[str]:
    """The arguments of ``serve``."""
    file = state.with_name("serve.env")
    assert main(["provision", "--state", str(state), "--image", str(image), "--env", str(file)]) == 0
    name, _, words = file.read_text().partition("=")
    assert name == "SERVE"
    return words.split()


def speaks(arguments: list[str]) -> bool:
    """Whether the first avatar of these arguments says something with its bundle."""
    faces = [Path(word.partition("=")[2]) for word in arguments if word.startswith("-a")] or [AVATAR]
    bundle = Path(arguments[1]) if arguments else BUNDLE
    with Bundle.open(bundle) as opened, Avatar.open(faces[0]) as face, Session(opened, face, SPEECH, 25) as session:
        return any(frame.nv12.any() for frame in session.frames())


@pytest.mark.parametrize("what", STATES)
def test_a_face_speaks_whatever_is_on_the_disk(
    what: str, image: Path, state: Path, bundle: Path, avatar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_two_versions(state, bundle, avatar)
    STATES[what](state)
    arguments = provision(state, image)
    assert "-a" in " ".join(arguments)
    assert "demo speaks" not in capsys.readouterr().err
    assert speaks(arguments)
    assert provision(state, image) == arguments
    assert "cannot be used" not in capsys.readouterr().err  # it is healed, not found again


def test_the_version_before_is_taken_and_not_the_image_s(image: Path, state: Path, bundle: Path, avatar: Path) -> None:
    provision(state, image)
    for name, source, file in (("bundles/student", bundle, "generator.onnx"), ("avatars/anna", avatar, "frames.mp4")):
        versions = Versions(state / name)
        assert versions.current == 1
        assert versions.add(source, print) == 2
        versions.started(2)
        flipped(versions.path / "2" / file)
    provision(state, image)
    assert Versions(state / "bundles/student").current == Versions(state / "avatars/anna").current == 1


def test_where_nothing_is_whole_the_demo_speaks(image: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image / "cpu.bundle").unlink()
    assert provision(state, image) == []
    assert "so the demo speaks: bring a bundle and an avatar" in capsys.readouterr().err
    assert speaks([])


def test_an_avatar_that_is_damaged_keeps_no_other_from_speaking(
    image: Path, state: Path, avatar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(avatar, state / "avatars/bob/1")
    (state / "avatars/bob/current").symlink_to("1")
    assert [word for word in provision(state, image) if word.startswith("-abob=")]
    flipped(state / "avatars/bob/1/latents.npy")
    capsys.readouterr()
    assert [word[:7] for word in provision(state, image) if word.startswith("-a")] == ["-aanna="]
    assert "avatar bob is left out" in capsys.readouterr().err


def test_engines_that_were_brought_go_first(
    image: Path, state: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle, state / "new.bundle")
    assert speaks(provision(state, image))
    assert "taking those for the CPU" not in capsys.readouterr().err
    assert sorted(path.name for path in state.iterdir()) == ["avatars", "bundles"]


def test_a_bundle_that_no_longer_runs_here_is_replaced(
    image: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provision(state, image)
    manifest = state / "bundles/student/1/manifest.json"
    manifest.write_text(manifest.read_text().replace('"backend": "onnxruntime"', '"backend": "tensorrt"'))
    assert speaks(provision(state, image))
    said = capsys.readouterr().err
    assert "version 1 cannot be used: " in said
    assert "taking those for the CPU" in said
    assert Versions(state / "bundles/student").current == 2
    provision(state, image)
    assert capsys.readouterr().err == ""


def command(state: Path, image: Path, *runtime: str) -> list[str]:
    return [*(runtime or EDGE), "provision", "--state", str(state), "--image", str(image)]


def test_engines_are_built_where_the_image_brings_a_model_set(
    image: Path, state: Path, modelset: Path, tmp_path: Path
) -> None:
    (image / "student.modelset").symlink_to(modelset)
    build = tmp_path / "build-engines"
    build.write_text(f'#!/bin/sh\nexec {shlex.join(BUILD)} "$@"\n')
    build.chmod(0o755)
    gpus = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "none"}
    environment = {**os.environ, **gpus, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command(state, image), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "build-engines: error:" in done.stderr
    assert "taking those for the CPU" in done.stderr
    assert Versions(state / "bundles/student").current == 1


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("*/state/avatars/anna", "bundles/student/current"),
        ("*/state/avatars/anna/.1.*.partial/frames.mp4", "avatars/anna/.1.*.partial"),
    ],
)
def test_what_was_cut_is_finished_by_the_next(image: Path, state: Path, tmp_path: Path, moment: str, left: str) -> None:
    held = [sys.executable, "-c", HELD, str(tmp_path / "held"), moment]
    with subprocess.Popen(command(state, image, *held), stderr=subprocess.DEVNULL, start_new_session=True) as cut:
        until((tmp_path / "held").exists, "it has come so far")
        os.killpg(cut.pid, signal.SIGKILL)
    assert any(state.glob(left))
    assert speaks(provision(state, image))
    assert Versions(state / "avatars/anna").current == 1
