"""A supervisor of `musetalk-edge serve`, which starts it again at once and samples what it takes of the machine."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SERVE = "from musetalk_runtime.cli.main import main; raise SystemExit(main())"
SAMPLE_INTERVAL_S = 2.0  # seconds between looks


class Server:
    """Runs until `close`. Attributes: ``pid``, ``port``, ``begun`` (monotonic), ``ends`` (times, exit statuses),
    ``samples`` (by process, of seconds, memory in MB, descriptors, threads).
    """

    def __init__(self, options: list[str], environment: dict[str, str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable,
            "-c",
            SERVE,
            "serve",
            *options,
            "--port",
            str(self.port),
            "--log-format",
            "json",
        ]
        self._environment, self._log = {**os.environ, **environment}, log
        self.begun = time.monotonic()
        self.ends: list[tuple[float, int]] = []
        self.samples: dict[int, list[tuple[float, float, int, int]]] = {}
        self.pid = 0
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._supervise, self._look)]
        for thread in self._threads:
            thread.start()

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """Status and JSON, or text; raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = json.dumps(body) if isinstance(body, dict) else body
            connection.request(method, path, data, {"Content-Type": kind, "Connection": "close"})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] in ("{", "[") else text
        finally:
            connection.close()

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Return once it takes sessions; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise TimeoutError(f"the service is not ready after {seconds:g} s: see {self._log}")

    def close(self) -> None:
        """End it, as a service manager does."""
        self._closed.set()
        if self._process:
            self._process.terminate()
        for thread in self._threads:
            thread.join()

    def _supervise(self) -> None:
        while not self._closed.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stderr=log, env=self._environment)
            self.pid = self._process.pid
            self.samples[self.pid] = []
            status = self._process.wait()
            self.ends.append((time.monotonic() - self.begun, status))

    def _look(self) -> None:
        while not self._closed.wait(SAMPLE_INTERVAL_S):
            try:
                pid = self.pid
                self.samples[pid].append((time.monotonic() - self.begun, *usage(pid)))
            except (OSError, KeyError):  # it has just ended
                continue


def usage(pid: int) -> tuple[float, int, int]:
    """Resident memory in MB, descriptors, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1e3, descriptors, int(status["Threads"])
