"""The appliance for aarch64 and the wheels of each extra, run as emulated programs of that machine."""

import os
import shutil
import subprocess
from pathlib import Path

import av
import cv2
import pytest

from helpers.media import moving_picture, voice, write_wav
from helpers.paths import ROOT

EMULATION = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
pytestmark = [
    pytest.mark.appliance,
    pytest.mark.timeout(3600),  # emulated, a second of work is half a minute
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mmdebstrap"), reason="needs root and mmdebstrap"),
    pytest.mark.skipif(not EMULATION.exists(), reason="programs for aarch64 do not run here"),
]
SCRIPTS = ROOT / "scripts" / "appliance"
STATE = "/var/lib/musetalk-edge"
NEED_TORCH = {"export", "distill", "draw"}
CPU_TORCH = "torch==2.9.1"  # the newest whose wheel for aarch64 brings no CUDA, which is gigabytes
IMPORTS = {  # what each extra brings; of those for a GPU, what can be imported without its driver
    "cpu": "onnxruntime",
    "nvenc": "",
    "gpu-rtx": "cuda.core, tensorrt_rtx_bindings",
    "serve": "fastapi, uvicorn, uvloop, websockets, musetalk_runtime.service.http.app",
    "engines": "onnx, onnx_graphsurgeon, polygraphy, musetalk_engines.cli",
    "engines-rtx": "tensorrt_rtx_bindings, musetalk_engines.cli",
    "export": "torch, diffusers, transformers, musetalk_export.cli",
    "distill": "accelerate, tensorboardX, musetalk_distill.cli",
    "draw": "espeakng_loader, musetalk_drawn.cli",
    "appliance": "cyclonedx, uv",
    "test": "build, hypothesis, pytest, xdist",
}
AARCH64 = b"\xb7\x00"  # e_machine of ELF


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the image for GB10, without its packing."""
    folder = tmp_path_factory.mktemp("aarch64")
    run(SCRIPTS / "build", "-o", folder / "image", "--variant", "gpu-rtx", "--arch", "arm64")
    (folder / "root").mkdir()
    run("tar", "-C", folder / "root", "-xf", folder / "image" / "rootfs.tar")
    return folder / "root"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def run(*words: object, timeout: float = 3000) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def enter(root: Path, state: Path, *words: str) -> str:
    return run(SCRIPTS / "enter", root, state, *words)


def install(root: Path, wheel: Path, extra: str) -> str:
    """The wheels of an extra, into a virtual environment of their own in `root`: its path there."""
    venv = f"/opt/extras/{extra}"
    run("chroot", root, "python3", "-m", "venv", "--without-pip", venv)
    machine = ["--python-platform", "aarch64-manylinux_2_36", "--python-version", "3.11", "--only-binary", ":all:"]
    named = [f"musetalk-edge[{extra}] @ {wheel.as_uri()}", *([CPU_TORCH] if extra in NEED_TORCH else [])]
    (site,) = (root / venv[1:]).glob("lib/python3*/site-packages")
    run("uv", "pip", "install", "--quiet", *machine, "--target", site, *named)
    return venv


@pytest.mark.parametrize("extra", IMPORTS)
def test_the_wheels_of_an_extra_run(root: Path, state: Path, wheel: Path, extra: str) -> None:
    venv = install(root, wheel, extra)
    libraries = [file for file in (root / venv[1:]).rglob("*.so*") if file.read_bytes()[:4] == b"\x7fELF"]
    assert libraries
    assert {file.read_bytes()[18:20] for file in libraries} == {AARCH64}
    imports = ", ".join(filter(None, ["platform", "numpy", "av", "cv2", IMPORTS[extra]]))
    code = f"import {imports}; print(platform.machine())"
    assert enter(root, state, f"{venv}/bin/python3", "-c", code).strip() == "aarch64"
    shutil.rmtree(root / venv[1:])


def test_doctor_finds_what_a_cpu_needs(root: Path, state: Path) -> None:
    said = enter(root, state, "musetalk-edge", "doctor")
    assert "aarch64" in said
    assert "ok       x264" in said


def test_a_photo_becomes_an_avatar_and_speaks(root: Path, state: Path, bundle: Path) -> None:
    shutil.copytree(bundle, state / "tiny.bundle")
    cv2.imwrite(str(state / "face.png"), moving_picture(0))
    write_wav(state / "speech.wav", voice(0.12))
    files = ("-b", f"{STATE}/tiny.bundle", "-o", f"{STATE}/face.avatar", "--face-box", "200,60,340,220")
    enter(root, state, "musetalk-edge", "prepare", f"{STATE}/face.png", *files)
    face = ("-b", f"{STATE}/tiny.bundle", "-a", f"{STATE}/face.avatar", "--fps", "25")
    enter(root, state, "musetalk-edge", "stream", *face, "--audio", f"{STATE}/speech.wav", "-o", f"{STATE}/talk.mp4")
    with av.open(str(state / "talk.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_engines_for_gb10_are_built_on_its_own_machine(
    root: Path, state: Path, wheel: Path, half_modelset: Path
) -> None:
    shutil.copytree(half_modelset, state / "tiny")
    venv = install(root, wheel, "engines-rtx")
    build = (f"{venv}/bin/python3", f"{venv}/lib/python3.11/site-packages/bin/build-engines", f"{STATE}/tiny")
    options = ("-o", f"{STATE}/gb10.bundle", "--backend", "tensorrt-rtx", "--for", "gb10", "--batch-sizes", "1")
    enter(root, state, *build, *options)
    plans = {file.stem: file.stat().st_size for file in (state / "gb10.bundle").glob("*.plan")}
    assert plans.keys() == {"unet", "vae_decoder", "vae_encoder", "audio_encoder"}
    assert min(plans.values()) > 10_000
