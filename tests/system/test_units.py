"""The systemd units: what they allow, what the first boot does, what the service tells its manager."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.processes import EDGE
from helpers.service_client import Client, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = pytest.mark.slow

UNITS = ROOT / "scripts" / "appliance" / "systemd"
SERVICES = ["musetalk-edge.service", "musetalk-edge-engines.service"]
EXPOSURE = 2.5
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
    logs = [line for line in logs if line["level"] == "info"]  # warnings may tell of a slow machine
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
