"""The process of a device's service, which outlives the process that started it."""

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from musetalk_runtime.core.worker import worker_command
from musetalk_runtime.storage.output_file import write_output

STOP_TIMEOUT_S = 30.0  # seconds that it has to end in; then it is killed
FILE = "service.json"
NO_INPUT = ((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),)


@dataclass(frozen=True)
class Running:
    """A process by its id and the time that the kernel started it, which no other process of that id has; and its
    arguments.
    """

    pid: int
    started: int
    arguments: tuple[str, ...]


class ServiceProcess:
    """``musetalk-edge serve`` in a session of its own, noted in the folder `state`, which exists.

    One that an earlier process of this class started is taken over if it has the same arguments: so its sessions run on
    while Ray, or this device's actor, starts anew.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._running = self._read()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self._running is None:
            return False
        with suppress(ChildProcessError):  # another process started it
            os.waitpid(self._running.pid, os.WNOHANG)
        return _started(self._running.pid) == self._running.started

    def start(self, arguments: Sequence[str]) -> None:
        """See to it that it runs with `arguments`: take it over, or start it, if need be in place of another."""
        if self.alive and self._running and self._running.arguments == tuple(arguments):
            return
        self.stop()
        command = [*worker_command("musetalk_runtime.cli.main"), "serve", *arguments]
        pid = os.posix_spawn(command[0], command, _environment(), file_actions=NO_INPUT, setsid=True)
        self._running = Running(pid, _started(pid) or 0, tuple(arguments))
        try:
            write_output(self._file, json.dumps(asdict(self._running)), 0o600)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it: its streams have the time of its ``--grace``."""
        if self.alive and self._running:
            with suppress(ProcessLookupError):
                os.kill(self._running.pid, signal.SIGTERM)
            until = time.monotonic() + STOP_TIMEOUT_S
            while self.alive and time.monotonic() < until:
                time.sleep(0.05)
            if self.alive:
                os.kill(self._running.pid, signal.SIGKILL)
        self._running = None
        self._file.unlink(missing_ok=True)

    def _read(self) -> Running | None:
        try:
            told = json.loads(self._file.read_text(encoding="utf-8"))
            return Running(int(told["pid"]), int(told["started"]), tuple(told["arguments"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _environment() -> dict[str, str]:
    """The variables of this process, but for Ray's, among which is a secret, and for those that are empty."""
    return {name: value for name, value in os.environ.items() if value and not name.startswith("RAY_")}


def _started(pid: int) -> int | None:
    """When the process `pid` was started, in ticks since boot; None if it runs no more. See proc_pid_stat(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
