"""A service that runs out of memory: the kernel ends a worker, and sessions go on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.media import moving_picture, write_video
from helpers.processes import EDGE, port_of
from helpers.service_client import Client, Viewer, until

GROUPS = Path("/sys/fs/cgroup/memory")
WORKER_MB = 20  # that are left for a worker, which wants more
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
    group.rmdir()


def test_a_worker_is_killed_for_want_of_memory_and_sessions_go_on(
    group: Path, bundle: Path, avatar: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "video.mp4", [moving_picture(k) for k in range(100)])
    options = ["-b", str(bundle), "-a", f"one={avatar}", "--avatars", str(tmp_path / "made"), "--port", "0"]
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *EDGE, "serve", *options]
    with subprocess.Popen(enter, stderr=subprocess.PIPE, text=True) as service:
        try:
            client = Client(port_of(service))
            path = client.begin()
            viewer = Viewer(client, path, whole=True)
            until(lambda: client.ask("GET", path)[1]["generated"] > 1, "frames")
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
