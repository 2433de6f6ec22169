"""A fleet on Ray, by the commands that an operator runs, all on this machine's loopback."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.processes import EDGE
from helpers.service_client import Client, HeldPort, until

ASK_S = 0.3
START_S = 240.0  # seconds in which a part of the fleet has to start, on a machine that does other things too


class Command:
    """``musetalk-edge fleet`` with `arguments`, as a process; what it says on stderr is in ``lines``."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*EDGE, "fleet", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, words: str) -> bool:
        assert self._process.poll() is None, self.lines[-5:]
        return any(words in line for line in self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit status."""
        status = self._process.wait(seconds)
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()
        return status

    def _read(self) -> None:
        assert self._process.stderr
        self.lines += iter(self._process.stderr.readline, "")


class RayFleet:
    """A fleet with its files in `folder`. ``client`` asks the front end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("0123456789abcdef" * 4)
        self.registry = str(folder / "registry")
        self._held = {name: HeldPort() for name in ("ray", "front")}
        self.client = Client(self._held["front"].port)
        self._head: Command | None = None
        self._devices: dict[str, Command] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._held['ray'].port}"

    def start_head(self) -> None:
        self._head = head = Command(
            "head",
            *("--secret", str(self.secret), "--state", str(self.folder / "head"), "--registry", self.registry),
            *("--port", str(self.client.port), "--ray-port", str(self._held["ray"].port)),
        )
        until(lambda: head.says("is the front end"), "the front end starts", START_S)

    def end_head(self, number: int = signal.SIGTERM) -> None:
        assert self._head
        self._head.end(number)
        self._head = None

    def start_device(self, name: str, secret: Path | None = None, wait: bool = True) -> Command:
        self._devices[name] = command = self.device(name, name, secret)
        if wait:
            self.wait_for(name)
        return command

    def device(self, name: str, place: str, secret: Path | None = None) -> Command:
        """The command of a device, with the state and the port of `place`."""
        if place not in self._held:
            self._held[place] = HeldPort()
        port = self._held[place].port
        return Command(
            "device",
            *(name, "--secret", str(secret or self.secret), "--state", str(self.folder / place)),
            *("--head", self.address, "--port", str(port), "--public-url", f"http://127.0.0.1:{port}"),
            *("--registry", self.registry, "--bundle", "student", "--serve-options", "--sessions 4 --grace 2"),
        )

    def wait_for(self, *names: str) -> None:
        """Wait until the front end knows these devices to be up."""
        self.until(lambda devices: all(devices.get(name, {}).get("up") for name in names), f"{names} are up", START_S)

    def until(self, condition: Callable[[dict[str, dict[str, Any]]], bool], what: str, seconds: float = 90.0) -> None:
        """Wait until what the front end says of the devices is so. It is asked seldom, since Ray takes its time."""
        deadline = time.monotonic() + seconds
        while not condition(told := self.devices()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}: {told}"
            time.sleep(ASK_S)

    def kill_device(self, name: str) -> None:
        """As if its power was cut."""
        os.kill(self.service_pid(name), signal.SIGKILL)
        self._devices.pop(name).end(signal.SIGKILL)

    def service_pid(self, name: str) -> int:
        return int(json.loads((self.folder / name / "service.json").read_text())["pid"])

    def steer(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*EDGE, "fleet", *arguments, "--secret", str(self.secret), "--head", self.address]
        return subprocess.run(command, capture_output=True, text=True, timeout=START_S)

    def devices(self) -> dict[str, dict[str, Any]]:
        """What the front end says of the devices; nothing while it does not answer."""
        try:
            status, told = self.client.ask("GET", "/v1/devices")
        except OSError:
            return {}
        return {device["name"]: device for device in told} if status == 200 else {}

    def begin(self, **wanted: Any) -> tuple[int, dict[str, Any]]:
        """A session of few frames a second, so that many run here at once."""
        status, answer = self.client.ask("POST", "/v1/sessions", {"avatar": "one", "fps": 10, **wanted})
        return status, dict(answer)

    def close(self) -> None:
        for command in self._devices.values():
            command.end()
        if self._head:
            self._head.end()
        for held in self._held.values():
            held.__exit__()


def processes(words: str) -> list[int]:
    """The processes whose command line has `words`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(int(folder.name))
    return found


def listening(pids: list[int]) -> set[str]:
    """The addresses, in hexadecimal, at which processes listen: see proc_pid_net_tcp(5)."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(link.readlink().name)
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found
