"""A node of the Ray cluster: the processes that ``ray start`` starts, as long as they run."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.worker import worker_command
from musetalk_runtime.fleet.cluster.environment import DEVICE_RESOURCE, HEAD_RESOURCE, own_resource

RAY = ("--block", "--disable-usage-stats", "--log-color=false")
STORE_BYTES = 80 << 20  # of Ray's object store, which nothing large goes through: the least it takes is 75 MiB
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
STARTED = b"--block"  # what `ray start` says once its node is up
LOG = "ray.log"


@contextmanager
def head_node(host: str, port: int, folder: Path, options: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The head of a cluster at `host` and `port`; Ray's own words are in a log in `folder`."""
    resources = json.dumps({HEAD_RESOURCE: 1})
    command = [
        *worker_command("musetalk_runtime.fleet.cluster.ray_start"),
        *RAY,
        "--head",
        f"--node-ip-address={host}",
        f"--port={port}",
        f"--resources={resources}",
    ]
    command += ["--num-cpus=1", "--include-dashboard=false", f"--object-store-memory={STORE_BYTES}", *options]
    with _running(command, folder) as process:
        yield process


@contextmanager
def device_node(
    name: str, address: str, host: str, folder: Path, options: list[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The node of the device `name`, at `host`, in the cluster at `address`."""
    resources = json.dumps({DEVICE_RESOURCE: 1, own_resource(name): 1})
    command = [
        *worker_command("musetalk_runtime.fleet.cluster.ray_start"),
        *RAY,
        f"--address={address}",
        f"--node-ip-address={host}",
        f"--resources={resources}",
    ]
    command += ["--num-cpus=0", f"--object-store-memory={STORE_BYTES}", *options]
    with _running(command, folder) as process:
        yield process


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while STARTED not in (folder / LOG).read_bytes():
            check_running(process, folder)
            if time.monotonic() > until:
                raise MachineError(f"Ray has not started in {START_TIMEOUT_S:g} s: see {folder / LOG}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()  # it ends what it has started
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_running(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Raise MachineError where the node has ended, with what it said last."""
    if process.poll() is not None:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")
        raise MachineError(f"Ray has ended with status {process.returncode}: {said[:300]}: see {folder / LOG}")
