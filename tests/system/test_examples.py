"""The examples of embedding, run as a reader would run them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from helpers.media import voice
from helpers.paths import ROOT
from helpers.service_client import until

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, for this interpreter and this checkout."""
    script = tmp_path_factory.mktemp("bin") / "musetalk-edge"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom musetalk_runtime.cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return script


def test_an_application_with_its_own_loop_shows_every_frame(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path
) -> None:
    out = tmp_path / "frames.nv12"
    command = [sys.executable, EXAMPLES / "own_loop.py", bundle, avatar, speech(1.0), "-o", out, "--fast"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["frames"], told["size"], told["late"]) == (25, [320, 240], 0)
    assert out.stat().st_size == 25 * 320 * 240 * 3 // 2


def test_what_an_application_cannot_open_is_told_in_a_line(avatar: Path, tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "own_loop.py", tmp_path / "no", avatar, "x.wav", "-o", tmp_path / "frames"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"own_loop: error: {tmp_path}/no: no such bundle\n")


def test_a_runtime_that_is_not_there_is_told_in_a_line(bundle: Path, avatar: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        EXAMPLES / "pipe.py",
        bundle,
        avatar,
        "-o",
        tmp_path / "talk.mp4",
        "--runtime",
        "nowhere",
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.endswith("error: --runtime nowhere: No such file or directory\n")


def test_a_process_speaks_to_the_runtime_through_pipes(
    bundle: Path, avatar: Path, runtime: Path, tmp_path: Path
) -> None:
    out = tmp_path / "talk.mp4"
    command = [sys.executable, EXAMPLES / "pipe.py", bundle, avatar, "-o", out, "--runtime", runtime]
    spoken = voice(2.0).tobytes()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(spoken[: len(spoken) // 2])
        process.stdin.flush()
        until(lambda: out.exists() and out.stat().st_size, "there is something before all is spoken")
        said, errors = process.communicate(spoken[len(spoken) // 2 :])
    assert process.returncode == 0, errors
    told = json.loads(said)
    assert told["status"] == 0
    assert told["bytes"] == out.stat().st_size
    assert told["pieces"] > 1  # it came bit by bit
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_a_runtime_that_fails_is_heard_of_and_does_not_hang(avatar: Path, runtime: Path, tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "pipe.py", tmp_path / "no", avatar, "-o", tmp_path / "talk.mp4"]
    command += ["--runtime", runtime]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout  # its stdin stays open, as a microphone's would
        assert done.stderr
        assert json.loads(done.stdout.read())["status"] == 2
        assert b"musetalk-edge: error:" in done.stderr.read()
    assert done.returncode == 2
