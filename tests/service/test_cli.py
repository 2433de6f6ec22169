"""``musetalk-edge serve`` as a process."""

import io
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import av
import pytest

from helpers.modules import loaded_modules
from helpers.processes import EDGE, complaints, port_in, port_of
from helpers.service_client import Client, Viewer, until
from musetalk_runtime.cli.main import main


@contextmanager
def serving(bundle: Path, avatar: Path, port: int = 0) -> Iterator["subprocess.Popen[str]"]:
    options = ["-b", str(bundle), "-a", f"one={avatar}", "--port", str(port), "--sessions", "2"]
    command = [*EDGE, "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture
def process(bundle: Path, avatar: Path) -> Iterator["subprocess.Popen[str]"]:
    with serving(bundle, avatar) as running:
        yield running


def test_sigterm_refuses_what_is_new_and_ends_streams_whole(process: "subprocess.Popen[str]") -> None:
    assert process.stderr
    said = process.stderr.readline()
    assert "holds 2 sessions" in said
    client = Client(port_in(said))
    path = client.begin()
    viewers = [Viewer(client, path) for _ in range(2)]
    until(
        lambda: all(viewer.data.count(b"moof") > 13 for viewer in viewers), "a second of stream"
    )  # of two frames each
    process.send_signal(signal.SIGTERM)
    for viewer in viewers:
        viewer.join(60)
        assert not viewer.cut
        with av.open(io.BytesIO(viewer.init + viewer.data)) as container:
            assert sum(1 for _ in container.decode(video=0)) >= 25
    with pytest.raises(OSError, match=r"refused|reset"):
        client.begin()
    assert process.wait(60) == -signal.SIGTERM
    assert complaints(process.stderr.read()) == []


@pytest.mark.slow
def test_a_service_that_was_killed_is_there_again_and_says_that_its_sessions_are_not(
    bundle: Path, avatar: Path
) -> None:
    """As a supervisor starts it: at once, on the same port, while viewers still hold connections to the old one."""
    port, path = 0, ""
    for begun in range(2):
        with serving(bundle, avatar, port) as killed:
            port = port_of(killed)
            client = Client(port)
            assert client.ask("GET", "/readyz") == (200, {"status": "ready", "free": 2})
            if begun:
                status, answer = client.ask("GET", path)
                assert (status, "the service was started again" in answer["error"]["message"]) == (404, True)
            path = client.begin()
            viewer = Viewer(client, path)
            until(partial(getattr, viewer, "data"), "a viewer gets something")
            killed.kill()
            viewer.join(60)
            assert viewer.cut


def test_a_service_that_cannot_be_says_so_in_one_line(
    bundle: Path, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, status, message in [
        (["-b", "nowhere", "-a", f"one={avatar}"], 2, "nowhere"),
        (["-b", str(bundle), "-a", "one"], 2, "NAME=AVATAR"),
        (["-b", str(bundle), "-a", f"../x={avatar}"], 2, "avatar name"),
        (["-b", str(bundle), "-a", f"one={avatar}", "-a", f"one={avatar}"], 2, "one name"),
        (["-b", str(bundle), "-b", str(bundle), "-a", f"one={avatar}"], 2, "two bundles have one name: default"),
        (["-b", f"a b={bundle}", "-a", f"one={avatar}"], 2, "bundle name 'a b'"),
        (["-b", str(bundle), "-a", f"one={avatar}", "--lead", "99"], 2, "lead 99"),
        (["-b", str(bundle)], 2, "no avatar"),
        (["-b", str(bundle), "--avatars", str(tmp_path), "--face-model", "nowhere.onnx"], 2, "no such face detector"),
        (["-b", str(bundle), "--avatars", str(avatar / "manifest.json")], 2, "expected a folder"),
        (["-b", str(bundle), "-a", f"one={avatar}", "--host", "192.0.2.1", "--insecure"], 2, "cannot be listened on"),
        (["-b", str(bundle), "-a", f"one={avatar}", "--host", "192.0.2.1"], 2, "give --tokens FILE"),
    ]:
        try:
            ended = main(["serve", *options])
        except SystemExit as usage:  # argparse's
            ended = usage.code
        said = capsys.readouterr().err
        assert (ended, message in said.splitlines()[-1]) == (status, True), said


def test_without_the_extra_it_names_it(bundle: Path, avatar: Path) -> None:
    *python, program = EDGE
    hidden = f"import sys; sys.modules['fastapi'] = None; {program}"
    command = [*python, hidden, "serve", "-b", str(bundle), "-a", f"one={avatar}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "pip install 'musetalk-edge[serve]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_serve_needs_the_extra() -> None:
    imports = "import musetalk_runtime.cli.main, musetalk_runtime.session; from musetalk_runtime import *"
    assert loaded_modules(imports, ["fastapi", "starlette", "uvicorn", "pydantic", "websockets"]) == []
