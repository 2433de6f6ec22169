"""Real artefacts, made once a session: a tiny checkpoint, its model set, its bundle, an avatar, speech.

Without PyTorch the demo's bundle takes the place of the tiny one, and what exports or trains is not collected.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.isolated import COMMAND, hooked, isolated, permitted
from helpers.made_once import made_once
from helpers.media import moving_picture, voice, write_video, write_wav
from helpers.paths import ROOT
from helpers.processes import EDGE

if TYPE_CHECKING:
    from helpers.service_client import Client
    from musetalk_runtime.service.service import Service

pytest_plugins = ["helpers.kernels", "helpers.cuda_simulator", "helpers.rtx_simulator"]

NEEDS_TORCH = ["distill", "export", "system/test_demo.py"]
HAS_TORCH = find_spec("torch") is not None
collect_ignore = [] if HAS_TORCH else NEEDS_TORCH

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would their own


def pytest_report_header() -> str:
    return "PyTorch: found" if HAS_TORCH else f"PyTorch: none, so not collected: {' '.join(NEEDS_TORCH)}"


def pytest_collection_finish() -> None:
    """Leave what the libraries made while they were imported to itself: the collector would look at it in each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> Iterator[None]:
    """A figure of an engine is of 50 ms of runs instead of a second: no test here judges how fast a machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("musetalk_runtime.certification.measure.MIN_MEASURED_S", 0.05)
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real inputs, which are not part of the project."""
    folder = Path(os.environ.get("MUSETALK_EDGE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real inputs are not at {folder}; MUSETALK_EDGE_DATA can name another folder")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs PyTorch to make a checkpoint")
    from musetalk_export.checkpoint.preset import init_checkpoint

    return made_once(
        tmp_path_factory, "checkpoint", lambda folder: init_checkpoint("tiny", folder, tree="diffusers", seed=0)
    )


@pytest.fixture(scope="session")
def modelset(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from musetalk_export.export import export_model_set

    return made_once(tmp_path_factory, "modelset", lambda folder: export_model_set(checkpoint, folder))


@pytest.fixture(scope="session")
def half_modelset(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`modelset` in FP16."""
    from musetalk_export.export import export_model_set

    return made_once(tmp_path_factory, "half", lambda folder: export_model_set(checkpoint, folder, half=True))


# Of every bundle, whatever else this machine did when it was built: it makes 25 frames a second.
MEASURED = {
    "batch_ms": {"1": 33.0, "2": 66.0, "4": 132.0},
    "live_context_seconds": 2.0,
    "audio_encoder_ms": {"30.0": 20.0, "10.0": 10.0, "2.0": 2.0},
}


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from musetalk_runtime.demo import BUNDLE
    from musetalk_runtime.storage.folder import MANIFEST

    def make(folder: Path) -> None:
        if HAS_TORCH:
            from musetalk_engines.build import build_bundle

            build_bundle(request.getfixturevalue("modelset"), folder, (1, 2, 4), None, print)
        else:
            shutil.copytree(BUNDLE, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest.update(MEASURED)
        for engine in manifest["engines"].values():
            engine["build_seconds"] = 0.1
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return made_once(tmp_path_factory, "bundle", make)


@pytest.fixture(scope="session")
def avatar(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moving picture of 12 frames, 320x240 at 25 fps, with its face box a little outside the frame."""
    from musetalk_runtime.bundle import Bundle
    from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

    def make(folder: Path) -> None:
        folder.mkdir()
        video = folder / "source.mp4"
        write_video(video, [moving_picture(k) for k in range(12)])
        with Bundle.open(bundle) as opened:
            prepare_avatar(video, opened, folder / "pack", PrepareOptions(face_box=(200, 60, 340, 220)), None)

    return made_once(tmp_path_factory, "avatar", make) / "pack"


@pytest.fixture(scope="session")
def posed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar with the clips "idle", "nod" and "wave", 320x240 at 25 fps: see helpers/poses.py."""
    from helpers.poses import make_posed_avatar

    return made_once(tmp_path_factory, "posed", lambda folder: make_posed_avatar(bundle, folder)) / "posed"


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> "Iterator[Service]":
    """A service of the avatar, as "one", that takes four sessions."""
    from musetalk_runtime import Avatar, Bundle
    from musetalk_runtime.service.service import Service
    from musetalk_runtime.service.settings import Settings

    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=4))


@pytest.fixture(scope="module")
def client(service: "Service") -> "Iterator[Client]":
    """Who may ask `service` without a token."""
    from helpers.service_client import Client, serving

    with serving(service) as running:
        yield Client(running.port)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Makes a WAV of something speech-like that lasts so many seconds: 16 kHz, mono, 16 bits."""
    folder = tmp_path_factory.mktemp("speech")

    def make(seconds: float) -> Path:
        file = folder / f"{seconds}.wav"
        if not file.exists():
            write_wav(file, voice(seconds))
        return file

    return make


@pytest.fixture(scope="session")
def demo_talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the shortest command makes, talk.mp4.

    It ran in a network of its own where that is permitted, with a ``home`` of its own; then there is a report.json.
    """

    def make(folder: Path) -> None:
        (folder / "home").mkdir(parents=True)
        arguments = ["stream", "-o", str(folder / "talk.mp4")]
        if permitted():
            report = isolated(COMMAND, *hooked(EDGE), *arguments, home=folder / "home")
            (folder / "report.json").write_text(json.dumps(report))
        else:
            subprocess.run([*EDGE, *arguments], check=True)

    return made_once(tmp_path_factory, "demo-talk", make)


@pytest.fixture(scope="session")
def bad_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no audio, or not all of it."""
    folder = tmp_path_factory.mktemp("bad_audio")
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    (folder / "empty.wav").touch()
    write_wav(folder / "silent.wav", np.empty(0, np.int16))
    write_wav(folder / "whole.wav", voice(1.0))
    (folder / "truncated.wav").write_bytes((folder / "whole.wav").read_bytes()[:20_000])
    write_video(folder / "mute.mp4", [moving_picture(0)])
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n")
    return folder
