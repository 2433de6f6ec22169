"""Commands that write a folder, stopped half way: nothing is left, and the status is the signal's."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.media import moving_picture, write_video

# Each tells when it has come half way, and waits there.
HOLD = """
import threading
def hold():
    print("half way", flush=True)
    threading.Event().wait(600)
"""
BUILD = """
from musetalk_engines import build
generator_ms = build.generator_ms
build.generator_ms = lambda *given: hold() or generator_ms(*given)
from musetalk_engines.cli import main
raise SystemExit(main())
"""
PREPARE = """
from musetalk_runtime.prepare import prepare
write_avatar = prepare.write_avatar
def write(*given):
    *given, observe = given
    def look(index, rgb):
        if index == 10:
            hold()
        observe(index, rgb)
    return write_avatar(*given, look)
prepare.write_avatar = write
from musetalk_runtime.cli.main import main
raise SystemExit(main())
"""


def stop_half_way(script: str, arguments: list[str], folder: Path, number: signal.Signals) -> None:
    before = set(folder.iterdir())
    command = [sys.executable, "-c", HOLD + script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        said = process.stdout.readline()
        assert said == b"half way\n", process.stderr.read()
        (partial,) = set(folder.iterdir()) - before
        assert partial.name.endswith(".partial")
        assert any(partial.iterdir())
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
        assert b"Traceback" not in process.stderr.read()
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_build_engines(modelset: Path, tmp_path: Path, number: signal.Signals) -> None:
    arguments = [str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime"]
    stop_half_way(BUILD, arguments, tmp_path, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prepare(bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    write_video(tmp_path / "source.mp4", [moving_picture(k) for k in range(20)])
    arguments = ["prepare", str(tmp_path / "source.mp4"), "-b", str(bundle), "-o", str(tmp_path / "avatar")]
    arguments += ["--face-box", "100,60,240,220"]
    stop_half_way(PREPARE, arguments, tmp_path, number)
