"""A worker process, which runs a module of this project: its start, also from a zipapp or a frozen application."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from musetalk_runtime.core.system_memory import kill_first

WORKER = "--musetalk-edge-worker"  # the first argument of an application that is to be a worker
FROM_ARCHIVE = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from musetalk_runtime.core.worker import run_worker
sys.exit(run_worker(sys.argv[1:]))
"""


def worker_command(module: str) -> tuple[str, ...]:
    """The command that runs `module`, which has a function ``main``; its arguments come after it.

    A frozen application is no Python that has ``-m``: it is started again, and its hook calls `run_if_worker`.
    """
    if getattr(sys, "frozen", False):
        return sys.executable, WORKER, module
    archive = Path(__file__).parents[2]
    if archive.is_file():
        return sys.executable, "-c", FROM_ARCHIVE, str(archive), module
    return sys.executable, "-m", module


def start_worker(command: Sequence[str]) -> Popen[bytes]:
    """Run `command`, with pipes to and from it; raises OSError.

    It takes no modules from the folder in which it starts, and a signal from this terminal does not reach it.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True)
    kill_first(process.pid)
    return process


def run_if_worker() -> None:
    """Do a worker's work and end, if this process was started to be one. Else nothing."""
    if sys.argv[1:2] == [WORKER]:
        sys.exit(run_worker(sys.argv[2:]))


def run_worker(command: Sequence[str]) -> int | None:
    """Run the module that `command` begins with, with the arguments after it; gives its exit status."""
    module, *arguments = command
    if not module.startswith(("musetalk_runtime.", "musetalk_engines.")):
        raise ValueError(f"{module}: no worker of musetalk-edge")
    sys.argv[1:] = arguments
    status: int | None = import_module(module).main()
    return status
