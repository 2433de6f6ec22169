"""The package in one file: a zipapp, and an application that PyInstaller froze, which runs where no Python is."""

import json
import os
import subprocess
import sys
import sysconfig
import wave
import zipapp
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import pytest

from helpers.processes import port_of
from helpers.service_client import Client, Viewer, until
from musetalk_runtime.core.worker import FROM_ARCHIVE, WORKER
from musetalk_runtime.demo import BUNDLE, SPEECH
from musetalk_runtime.diagnostics.synthetic import write_face_video
from musetalk_runtime.prepare.worker import Request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# An application of somebody's own, that encodes in processes however few cores there are.
APPLICATION = """\
from musetalk_runtime.cli.main import main
from musetalk_runtime.service.scheduling import session_encoders

session_encoders.MIN_CORES_FOR_PROCESSES = 0
if __name__ == "__main__":
    raise SystemExit(main())
"""
UNUSED = (  # by it, but installed here
    "torch", "onnx", "transformers", "pytest", "setuptools", "pip", "PIL", "pillow_heif", "scipy", "hypothesis",
    "aiortc", "cryptography", "grpc", "cuda", "tensorrt_rtx_bindings", "hibari", "rich", "pygments", "jinja2",
)  # fmt: skip


@dataclass(frozen=True)
class Application:
    """`command` runs it in `environment`; its workers' commands begin with `workers`."""

    command: list[str]
    workers: list[str]
    environment: dict[str, str]

    def work(self, module: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([*self.workers, module], input=given, env=self.environment, capture_output=True)


def zipped(wheel: Path, folder: Path) -> Application:
    source, archive = folder / "source", folder / "edge.pyz"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(source, [name for name in packed.namelist() if name.startswith("musetalk_runtime/")])
    (source / "__main__.py").write_text(APPLICATION)
    zipapp.create_archive(source, archive, compressed=True)
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-S", str(archive)]  # without the checkout, which .pth files name
    return Application(command, [sys.executable, "-c", FROM_ARCHIVE, str(archive)], environment)


def frozen(wheel: Path, folder: Path) -> Application:
    """As PyInstaller makes it of what is installed: it finds the hook by the wheel's entry point."""

    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    (folder / "application.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "WARN"]
    command += ["--specpath", "work", "--workpath", "work", "--distpath", "."]
    command += [word for name in UNUSED for word in ("--exclude-module", name)]
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "PYINSTALLER_CONFIG_DIR": str(folder / "work")}
    done = subprocess.run([*command, "application.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = str(folder / "application" / "application")
    return Application([program], [program, WORKER], {"PATH": "/usr/bin:/bin"})


@pytest.fixture(scope="module", params=[zipped, pytest.param(frozen, marks=pytest.mark.frozen)])
def application(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    if request.param is frozen:
        pytest.importorskip("PyInstaller")
    make: Callable[[Path, Path], Application] = request.param
    return make(wheel, tmp_path_factory.mktemp(make.__name__))


def test_the_demo_streams(application: Application, tmp_path: Path) -> None:
    command = [*application.command, "stream", "--fps", "5", "-o", "talk.mp4"]
    done = subprocess.run(command, cwd=tmp_path, env=application.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with wave.open(str(SPEECH)) as speech:
        seconds = speech.getnframes() / speech.getframerate()
    with av.open(str(tmp_path / "talk.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == pytest.approx(5 * seconds, abs=1)


def test_a_service_encodes_in_processes(application: Application) -> None:
    command = [*application.command, "serve", "--port", "0", "--sessions", "2"]
    encoder = [*application.workers, "musetalk_runtime.output.processes.main"]
    pids: set[int] = set()

    def started() -> bool:
        pids.update(pid for pid, words in children(service.pid).items() if words[: len(encoder)] == encoder)
        return bool(pids)

    with subprocess.Popen(command, env=application.environment, stderr=subprocess.PIPE, text=True) as service:
        try:
            client = Client(port_of(service))
            assert client.ask("GET", "/")[1].startswith("<!doctype html>")
            viewers = []
            for _ in range(2):  # the first begins in the service, the second in a process
                status, session = client.ask("POST", "/v1/sessions/audio?avatar=demo", SPEECH.read_bytes())
                assert status == 201, session
                viewers.append(Viewer(client, f"/v1/sessions/{session['id']}"))
                until(started, "an encoder process")
            until(lambda: all(len(viewer.data) > 50_000 for viewer in viewers), "both are seen", 60)
        finally:
            service.kill()
    for viewer in viewers:
        viewer.join(60)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the encoder processes end with it")


def test_a_preparation_is_a_worker(application: Application, tmp_path: Path) -> None:
    write_face_video(tmp_path / "face.mp4", 5)
    limits = {"max_seconds": 10.0, "max_side": 1280, "memory": 4 << 30, "seconds": 60, "file_bytes": 1 << 30}
    source, output = str(tmp_path / "face.mp4"), str(tmp_path / "avatar")
    request = Request(source, str(BUNDLE), output, None, (164, 150, 348, 400), **limits)
    command = [*application.workers, "musetalk_runtime.prepare.worker"]
    with subprocess.Popen(
        command, env=application.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin
        assert worker.stdout
        worker.stdin.write(json.dumps(asdict(request)).encode() + b"\n")  # it ends where stdin does
        worker.stdin.flush()
        said = [json.loads(line) for line in worker.stdout]
    assert "report" in said[-1], said[-1]
    assert (tmp_path / "avatar" / "manifest.json").is_file()


def test_a_relay_is_a_worker(application: Application) -> None:
    done = application.work("musetalk_runtime.output.relay", b"nothing\n")
    assert (done.returncode, done.stdout) == (1, b"started\nInvalid data found when processing input\n")


def test_nothing_else_is_a_worker(application: Application) -> None:
    done = application.work("http.server")
    assert done.returncode == 1
    assert b"http.server: no worker of musetalk-edge" in done.stderr


def children(pid: int) -> dict[int, list[str]]:
    """The commands of the processes that `pid` started, by their ids."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found[int(path.name)] = (path / "cmdline").read_bytes().decode().split("\0")
    return found
