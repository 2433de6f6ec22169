"""The systemd units: what they allow, what the first boot does, what the service tells its manager."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.processes import BUILD, EDGE
from helpers.service_client import Client, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings
from musetalk_runtime.update.versions import Versions

pytestmark = pytest.mark.slow

UNITS = ROOT / "scripts" / "appliance" / "systemd"
SERVICES = ["musetalk-edge.service", "musetalk-edge-engines.service"]
EXPOSURE = 2.5
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

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_the_units_are_hardened(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_systemd_knows_every_line_of_them(unit: str, tmp_path: Path) -> None:
    for name in SERVICES:
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True, text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "musetalk" in line] == []


@pytest.fixture
def image(modelset: Path, bundle: Path, avatar: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a first boot: an image, the commands of this checkout, and a machine without a GPU."""
    image = tmp_path / "image"
    (image / "avatars").mkdir(parents=True)
    for name, source in (("student.modelset", modelset), ("cpu.bundle", bundle), ("avatars/anna", avatar)):
        (image / name).symlink_to(source)
    for name, command in {"musetalk-edge": EDGE, "build-engines": BUILD}.items():
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    gpus = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "none"}
    return {**os.environ, **gpus, "PATH": path, "IMAGE": str(image), "STATE_DIRECTORY": str(tmp_path / "state")}


def boot(environment: dict[str, str]) -> str:
    done = subprocess.run([str(UNITS / "first-boot")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_first_boot_falls_back_to_the_cpu_and_the_second_does_nothing(
    image: dict[str, str], tmp_path: Path
) -> None:
    said = boot(image)
    assert "build-engines: error:" in said
    assert "taking those for the CPU" in said
    state = tmp_path / "state"
    assert Versions(state / "bundles" / "student").current == Versions(state / "avatars" / "anna").current == 1
    assert boot(image) == ""


def test_a_first_boot_takes_engines_that_were_brought(image: dict[str, str], bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(bundle, state / "new.bundle")
    assert "the engines that were brought are current" in boot(image)
    assert sorted(path.name for path in state.iterdir()) == ["avatars", "bundles"]


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("*/state/avatars/anna", "bundles/student/current"),
        ("*/state/avatars/anna/.1.*.partial/frames.mp4", "avatars/anna/.1.*.partial"),
    ],
)
def test_a_first_boot_that_was_cut_is_finished_by_the_next(
    image: dict[str, str], tmp_path: Path, moment: str, left: str
) -> None:
    state = tmp_path / "state"
    runtime = tmp_path / "musetalk-edge"
    whole = runtime.read_text()
    held = [sys.executable, "-c", HELD, str(tmp_path / "held"), moment]
    runtime.write_text(f'#!/bin/sh\nexec {shlex.join(held)} "$@"\n')
    cut = subprocess.Popen([UNITS / "first-boot"], env=image, stderr=subprocess.DEVNULL, start_new_session=True)
    until((tmp_path / "held").exists, "it has come so far")
    os.killpg(cut.pid, signal.SIGKILL)
    cut.wait()
    assert any(state.glob(left))
    runtime.write_text(whole)
    boot(image)
    assert Versions(state / "bundles" / "student").current == 1
    with Avatar.open(state / "avatars" / "anna" / "current"):
        pass


def test_a_bundle_that_no_longer_runs_here_is_replaced_at_the_next_boot(
    image: dict[str, str], bundle: Path, tmp_path: Path
) -> None:
    versions = Versions(tmp_path / "state" / "bundles" / "student")
    shutil.copytree(bundle, versions.path / "1")
    (versions.path / "current").symlink_to("1")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (versions.path / "1" / "manifest.json").write_text(json.dumps({**manifest, "backend": "tensorrt"}))
    said = boot(image)
    assert "the current bundle does not run here any more:\nfailure" in said
    assert "taking those for the CPU" in said
    assert versions.current == 2
    assert boot(image) == ""


def test_an_avatar_of_the_image_that_is_none_keeps_nobody_from_speaking(image: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "image" / "avatars" / "aaron").mkdir()
    assert "avatar aaron is left out" in boot(image)
    assert Versions(tmp_path / "state" / "avatars" / "anna").current == 1


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        yield manager


def test_the_service_tells_when_it_is_ready_and_ends_and_logs_json(
    manager: socket.socket, bundle: Path, avatar: Path, tmp_path: Path
) -> None:
    options = ["-b", str(bundle), "-a", f"one={avatar}", "--port", "0", "--sessions", "2", "--log-format", "json"]
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}
    command = [*EDGE, "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        assert manager.recv(100) == b"READY=1"
        begun = json.loads(process.stderr.readline())
        client = Client(int(begun["url"].split(":")[2].rstrip("/")))
        assert (begun["level"], begun["sessions"], client.ask("GET", "/readyz")[0]) == ("info", 2, 200)
        assert manager.recv(100) == manager.recv(100) == b"WATCHDOG=1"
        client.begin()
        assert manager.recv(100) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        while (told := manager.recv(100)) != b"STOPPING=1":
            assert told == b"WATCHDOG=1"
        logs = [json.loads(line) for line in process.stderr]
    logs = [line for line in logs if not line["logger"].endswith(".watchdog")]  # which tells of a slow machine
    assert [line["message"] for line in logs] == ["session begins", "session ended"]
    assert {"time", "level", "logger", "session", "avatar", "frames"} <= logs[1].keys()


def test_an_error_is_json_too(bundle: Path, tmp_path: Path) -> None:
    command = [*EDGE, "serve", "--log-format", "json"]
    done = subprocess.run([*command, "-b", str(bundle), "-a", f"one={tmp_path / 'no'}"], capture_output=True, text=True)
    said = json.loads(done.stderr)
    assert (done.returncode, said["level"], "no such avatar" in said["message"]) == (2, "critical", True)


@pytest.mark.parametrize("busy", [False, True])
def test_engines_that_hang_do_not_feed_the_watchdog(
    manager: socket.socket, bundle: Path, avatar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    released, hanging = threading.Event(), threading.Event()
    with Bundle.open(bundle) as engines, Avatar.open(avatar) as face:
        service = Service(engines, {"one": face}, Settings(sessions=1))
        worker = service.engines["default"]
        name = "begin" if busy else "answer_probe"
        work = getattr(worker, name)

        def hang(*given: object) -> object:
            if armed.is_set():
                hanging.set()
                released.wait(60)
            return work(*given)

        armed = threading.Event()
        monkeypatch.setattr(worker, name, hang)
        with serving(service) as server:
            try:
                assert manager.recv(100) == b"READY=1"
                if busy:
                    path = Client(server.port).begin()
                    until(lambda: Client(server.port).ask("GET", path)[1]["generated"] > 0.5, "frames")
                assert manager.recv(100) == b"WATCHDOG=1"
                armed.set()
                assert hanging.wait(60)
                with pytest.raises(TimeoutError):
                    drain(manager)
            finally:
                released.set()
            assert manager.recv(100) == b"WATCHDOG=1"


def drain(manager: socket.socket) -> None:
    """Take what was told before; raises TimeoutError once nothing comes for two times the watchdog's wait."""
    manager.settimeout(
        0
    )  # MSG_DONTWAIT would wait: Python asks first whether there is something, for as long as it may
    with suppress(BlockingIOError):
        while manager.recv(100):
            pass
    manager.settimeout(1.2)
    try:
        for _ in range(4):
            manager.recv(100)
    finally:
        manager.settimeout(60)
