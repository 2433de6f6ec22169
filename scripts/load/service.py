"""A service in a process of its own, for the scripts beside this one."""

import http.client
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SERVE = "from musetalk_runtime.cli.main import main; raise SystemExit(main())"


class Service:
    """Requests to it, a connection each. Attributes: ``port``, ``pid``, ``lines`` (that it has written to its log)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr  # noqa: S101 - it is a pipe
        self._process = process
        self.port = int(process.stderr.readline().split("/")[2].split(":")[1])
        self.pid = process.pid
        self.lines: list[str] = []
        threading.Thread(target=self.lines.extend, args=(process.stderr,), daemon=True).start()

    def open(self, method: str, path: str, body: Any = None, timeout: float = 60) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 60) -> tuple[int, Any]:
        """Status and JSON, or text."""
        with self.open(method, path, body, timeout) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] in ("{", "[") else text

    def send(self, path: str, data: bytes, kind: str) -> int:
        """The status of a POST of `data`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, data, {"Content-Type": kind, "Connection": "close"})
        with connection.getresponse() as answer:
            answer.read()
            return answer.status

    @property
    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        return cpu_seconds(self.pid)

    @property
    def memory_mb(self) -> float:
        """Its resident size."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


def cpu_seconds(pid: int) -> float:
    """CPU time that the process `pid` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Seconds that the cores have worked, all together, since the machine started."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that any thread of `pid` started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found += map(int, (task / "children").read_text().split())
    return found


@contextmanager
def serving(*options: str, soft_limit: int | None = None, first: str = "") -> Iterator[Service]:
    """`musetalk-edge serve` with `options`, and with a soft limit of descriptors, until the context is left.

    Its process runs the statements `first` before all else.
    """

    def limit() -> None:
        if soft_limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft_limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    command = [sys.executable, "-c", first + SERVE, "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=limit) as process:  # noqa: PLW1509
        try:
            yield Service(process)
        finally:
            process.terminate()
