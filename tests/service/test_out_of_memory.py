"""A service that runs out of memory: the kernel ends a worker, and sessions go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.media import moving_picture, write_video
from helpers.processes import EDGE, port_of
from helpers.service_client import Client, Viewer, until

GROUPS = Path("/sys/fs/cgroup/memory")
WORKER_MB = 20  # that are left for a worker, which wants more
OTHERS_MB = 400  # of another program
ENTER = 'echo $$ > "$0/cgroup.procs"'
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not (GROUPS / "memory.limit_in_bytes").exists(),
    reason="needs root and a memory control group of version 1",
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of processes, by whose limit the kernel ends them."""
    group = GROUPS / f"musetalk-edge-test-{os.getpid()}"
    group.mkdir()
    yield group
    until(lambda: not processes(group), "its processes have ended")
    group.rmdir()


def processes(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


@pytest.fixture
def others(group: Path) -> Iterator[int]:
    """The pid of another program in the group, without which its limit would be less than the service has mapped.

    The kernel takes a worker for larger than it is by a share of the limit.
    """
    code = f"import sys; held = bytearray(b'1') * ({OTHERS_MB} << 20); print(flush=True); sys.stdin.read()"
    command = ["sh", "-c", f'{ENTER} && exec "$@"', str(group), sys.executable]
    with subprocess.Popen([*command, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout
        program.stdout.readline()
        yield program.pid
        program.kill()


def end_all_but(group: Path, pids: set[int]) -> None:
    """The process for text is one of them, and what it needs while it starts would be left for the worker."""
    for other in set(processes(group)) - pids:
        with suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)
    until(lambda: set(processes(group)) == pids, "the others are gone")


def test_a_worker_is_killed_for_want_of_memory_and_sessions_go_on(
    group: Path, others: int, bundle: Path, avatar: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "video.mp4", [moving_picture(k) for k in range(100)])
    options = ["-b", str(bundle), "-a", f"one={avatar}", "--avatars", str(tmp_path / "made"), "--port", "0"]
    enter = ["sh", "-c", f'{ENTER} && exec "$@"', str(group), *EDGE, "serve", *options]
    with subprocess.Popen(enter, stderr=subprocess.PIPE, text=True) as service:
        try:
            client = Client(port_of(service))
            path = client.begin()
            viewer = Viewer(client, path, whole=True)
            until(lambda: client.ask("GET", path)[1]["generated"] > 1, "frames")
            end_all_but(group, {service.pid, others})
            figures = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            limit = int(figures["total_rss"]) + int(figures["total_shmem"]) + (WORKER_MB << 20)
            (group / "memory.limit_in_bytes").write_text(str(limit))
            video = (tmp_path / "video.mp4").read_bytes()
            assert client.ask("POST", "/v1/avatars?name=new&face_box=200,60,320,220", video)[0] == 202
            *_, (_, last) = client.events("/v1/avatars/new")
            assert last["error"].startswith("the preparation was killed, perhaps because")
            assert "oom_kill 0\n" not in (group / "memory.oom_control").read_text()
            generated = client.ask("GET", path)[1]["generated"]
            until(lambda: client.ask("GET", path)[1]["generated"] > generated + 1, "frames after it")
            client.ask("DELETE", path)
            viewer.join(60)
            assert not viewer.cut
        finally:
            service.kill()
