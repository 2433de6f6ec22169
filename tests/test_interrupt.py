"""Commands that write a folder, stopped half way: nothing is left, and the status is the signal's."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import moving_picture, write_video
from processes import BUILD, EDGE


def stop_half_way(command: list[str], folder: Path, number: signal.Signals) -> None:
    before = set(folder.iterdir())
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not any(file.name.endswith(".partial") for file in folder.iterdir()):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=30) == -number
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_build_engines(modelset: Path, tmp_path: Path, number: signal.Signals) -> None:
    arguments = [str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime"]
    stop_half_way([*BUILD, *arguments], tmp_path, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prepare(bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    write_video(tmp_path / "source.mp4", [moving_picture(k) for k in range(100)])
    arguments = ["prepare", str(tmp_path / "source.mp4"), "-b", str(bundle), "-o", str(tmp_path / "avatar")]
    arguments += ["--face-box", "100,60,240,220"]
    stop_half_way([*EDGE, *arguments], tmp_path, number)
