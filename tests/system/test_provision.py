"""``musetalk-edge provision``: whatever is on a device's disk, a face speaks after it."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.processes import BUILD, EDGE
from helpers.service_client import until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.cli.main import main
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.storage.folder import MANIFEST
from musetalk_runtime.update.versions import Versions

pytestmark = pytest.mark.slow

State = Callable[[Path], object]
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


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def instead(path: Path, content: bytes = b"") -> None:
    """A file in the place of whatever is at `path`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def linked(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_both(change: Callable[[Path, str], object]) -> State:
    """`change` on the versions of the bundle and on those of the avatar, with the name of a large file in each."""
    files = {"bundles/student": "generator.onnx.data", "avatars/anna": "frames.mp4"}
    return lambda state: [change(state / name, file) for name, file in files.items()]


EACH: dict[str, Callable[[Path, str], object]] = {
    "a byte is another": lambda path, file: flipped(path / "2" / file),
    "a file is cut": lambda path, file: os.truncate(path / "2" / file, 1000),
    "a file is empty": lambda path, file: os.truncate(path / "2" / file, 0),
    "a file is missing": lambda path, file: (path / "2" / file).unlink(),
    "the manifest is empty": lambda path, _: os.truncate(path / "2" / MANIFEST, 0),
    "the version is missing": lambda path, _: shutil.rmtree(path / "2"),
    "the version is a file": lambda path, _: instead(path / "2"),
    "all versions are damaged": lambda path, file: [flipped(path / number / file) for number in "12"],
    "all versions are missing": lambda path, _: [shutil.rmtree(path / number) for number in "12"],
    "the link is missing": lambda path, _: (path / "current").unlink(),
    "the link is an empty file": lambda path, _: instead(path / "current"),
    "the link is a folder": lambda path, _: folder_instead(path / "current"),
    "the link leads nowhere": lambda path, _: linked(path / "current", "7"),
    "the link leads outside": lambda path, _: linked(path / "current", "../../.."),
    "the link leads to /": lambda path, _: linked(path / "current", "/"),
    "the link leads to itself": lambda path, _: linked(path / "current", "current"),
    "a record is no JSON": lambda path, _: instead(path / "2.json", b"\xff{"),
    "a record is a folder": lambda path, _: folder_instead(path / "2.json"),
    "the lock is a folder": lambda path, _: folder_instead(path / "lock"),
    "the versions are a file": lambda path, _: instead(path),
    "the folder above is a file": lambda path, _: instead(path.parent),
    "the folder above is a link to nothing": lambda path, _: [shutil.rmtree(path.parent), linked(path.parent, "no")],
    "something was left half written": lambda path, _: (path / ".3.abc.partial").mkdir(),
}
STATES: dict[str, State] = {
    **{what: of_both(change) for what, change in EACH.items()},
    "nothing": shutil.rmtree,
    "the state is a file": instead,
    "a new bundle is an avatar": lambda state: shutil.copytree(state / "avatars/anna/2", state / "new.bundle"),
    "a new bundle is a file": lambda state: instead(state / "new.bundle", b"?"),
    "an avatar of a strange name": lambda state: (state / "avatars" / "a b").mkdir(),
    "an avatar that is none": lambda state: (state / "avatars" / "bob").mkdir(),
}


@pytest.mark.parametrize("what", STATES)
def test_a_face_speaks_whatever_is_on_the_disk(
    what: str, image: Path, state: Path, bundle: Path, avatar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in (("bundles/student", bundle), ("avatars/anna", avatar)):
        versions = Versions(state / name)
        for number in "12":
            shutil.copytree(source, versions.path / number)
            (versions.path / f"{number}.json").write_text(json.dumps({"previous": 1 if number == "2" else None}))
        (versions.path / "current").symlink_to("2")
        (versions.path / "lock").touch()
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
