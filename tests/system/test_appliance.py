"""The appliance's root filesystem: built twice, looked into, and entered as its user on a read-only root."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import pytest

from helpers.appliance import MARKS, SCRIPTS, STATE, build
from helpers.paths import ROOT
from musetalk_runtime.diagnostics.synthetic import write_face_video

pytestmark = MARKS
HEAVY = {"torch", "diffusers", "transformers", "onnx", "polygraphy", "pip", "uv"}
COMPILERS = ("gcc", "cc", "g++", "ld", "as", "make", "pip", "curl", "wget")
Enter = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def state(bundle: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    shutil.copytree(bundle, folder / "face.bundle")
    shutil.copytree(avatar, folder / "face.avatar")
    shutil.copy(speech(2.0), folder / "speech.wav")
    return folder


@pytest.fixture
def enter(root: Path, state: Path) -> Enter:
    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([SCRIPTS / "enter", root, state, *arguments], capture_output=True, **options)  # type: ignore[call-overload, no-any-return]

    return run


def test_the_same_checkout_gives_the_same_bytes(image: Path, tmp_path: Path) -> None:
    sums = dict(reversed(line.split()) for line in (image / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == {"rootfs.tar", "sbom.cdx.json", "sizes.json"}
    assert sums["sbom.cdx.json"] == hashlib.sha256((image / "sbom.cdx.json").read_bytes()).hexdigest()
    build(tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (image / "SHA256SUMS").read_text()


def test_it_holds_the_runtime_and_nothing_that_compiles_or_downloads(image: Path, root: Path) -> None:
    bom = json.loads((image / "sbom.cdx.json").read_text())
    packages = {component["purl"].partition("@")[0] for component in bom["components"]}
    assert {"pkg:pypi/numpy", "pkg:pypi/av", "pkg:deb/debian/libc6", "pkg:deb/debian/systemd"} <= packages
    assert not {f"pkg:pypi/{name}" for name in HEAVY} & packages
    assert all(component["version"] for component in bom["components"])
    assert bom["metadata"]["component"]["name"] == "musetalk-edge"
    assert not [name for name in COMPILERS if (root / "usr/bin" / name).exists()]
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 5000
    assert not [path for path in files if path.stat().st_mode & 0o002]
    sizes = json.loads((image / "sizes.json").read_text())
    assert sum(sizes["parts"].values()) == sizes["total"]
    if "OPENCV_WHEEL" in os.environ:
        assert sizes["parts"]["musetalk-edge and its packages"] <= 300e6


def test_its_units_are_installed(root: Path) -> None:
    for unit in (SCRIPTS / "systemd").glob("*.service"):
        assert (root / "usr/lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()


def test_only_the_state_can_be_written_and_only_loopback_is_there(enter: Enter, state: Path) -> None:
    done = enter("sh", "-c", f"id -un; touch {STATE}/new; cut -d: -f1 -s /proc/net/dev; touch /opt/no")
    assert done.stdout.split() == [b"musetalk-edge", b"lo"]
    assert b"/opt/no': Read-only file system" in done.stderr
    assert (state / "new").exists()


def test_doctor_and_a_stream_run_as_the_user(enter: Enter) -> None:
    done = enter("musetalk-edge", "doctor", "-b", f"{STATE}/face.bundle")
    assert done.returncode == 0, done.stderr
    assert b"ok       x264" in done.stdout
    assert b"ok       bundle" in done.stdout
    face = ("-b", f"{STATE}/face.bundle", "-a", f"{STATE}/face.avatar")
    done = enter("musetalk-edge", "stream", *face, "--fps", "25", "--audio", f"{STATE}/speech.wav", "-o", "-")
    assert done.returncode == 0, done.stderr
    with av.open(BytesIO(done.stdout)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


@pytest.mark.parametrize("worker", ["prepare.worker", "output.relay"])
def test_what_takes_uploads_and_pushes_is_found(enter: Enter, worker: str) -> None:
    code = f"import runpy; runpy.run_module('musetalk_runtime.{worker}')"
    done = enter("python3", "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not (ROOT / "runtime/musetalk_runtime/demo_data").is_dir(), reason="this checkout has no trained demo"
)
def test_the_demo_that_it_brings_streams_by_itself(enter: Enter) -> None:
    done = enter("musetalk-edge", "stream", "--fps", "25", "--audio", f"{STATE}/speech.wav", "-o", "-")
    assert done.returncode == 0, done.stderr
    with av.open(BytesIO(done.stdout)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_prepare_makes_an_avatar_in_the_state(enter: Enter, state: Path) -> None:
    write_face_video(state / "face.mp4", 10)
    files = (f"{STATE}/face.mp4", "-b", f"{STATE}/face.bundle", "-o", f"{STATE}/new.avatar")
    look = ("--face-box", "164,150,348,400", "--preview", f"{STATE}/look.png")
    done = enter("musetalk-edge", "prepare", *files, *look)
    assert done.returncode == 0, done.stderr
    assert (state / "new.avatar" / "manifest.json").is_file()
    assert (state / "look.png").read_bytes()[:4] == b"\x89PNG"


def test_a_service_answers_inside(enter: Enter) -> None:
    asking = (
        "import time, urllib.request as u\n"
        "for _ in range(600):\n"
        "    try:\n        print(u.urlopen('http://127.0.0.1:8787/readyz').status)\n        break\n"
        "    except OSError:\n        time.sleep(0.1)\n"
    )
    serve = f'musetalk-edge serve -b {STATE}/face.bundle -a anna={STATE}/face.avatar & python3 -c "$1"; kill $!; wait'
    done = enter("sh", "-c", serve, "sh", asking)
    assert done.stdout.strip() == b"200", done.stderr
    with socket.socket() as outside:  # it was in a network of its own
        assert outside.connect_ex(("127.0.0.1", 8787)) != 0


def test_enter_refuses_what_is_no_root(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPTS / "enter", tmp_path, tmp_path, "true"], capture_output=True, text=True)
    assert (done.returncode, "no appliance's root" in done.stderr) == (2, True)


def test_build_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    sources = tmp_path / "none.sources"
    sources.write_text("Types: deb\nURIs: file:///nowhere\nSuites: none\nComponents: main\n")
    command = [SCRIPTS / "build", "-o", tmp_path / "image", "--suite", "none", "--sources", sources]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "mmdebstrap failed with status" in done.stderr
    assert not (tmp_path / "image").exists()
