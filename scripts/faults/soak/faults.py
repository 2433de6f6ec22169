"""The faults of a soak test. Each raises Unexpected where the service does not do what it should."""

import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from server import Server
from watcher import Watcher
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

DISK_FULL_STATUS = 507
LARGE_UPLOAD_BYTES = 4 << 20  # bytes of an upload: more than others' clips leave free meanwhile
WORKER = b"musetalk_runtime.prepare.worker"


class Unexpected(Exception):
    """The service did something else than it should."""


def expect(condition: bool, *found: object) -> None:
    if not condition:
        raise Unexpected(", ".join(map(str, found))[:300])


class Faults:
    """Done to `server`, whose files are in `disk`, a small file system; `video` is what avatars are made of."""

    def __init__(self, server: Server, watchers: list[Watcher], disk: Path, video: bytes, box: str) -> None:
        self.server, self.watchers, self.disk, self._video, self._box = server, watchers, disk, video, box
        self._count = 0

    def stall(self, chance: random.Random) -> None:
        """A viewer that takes nothing for a while, and goes."""
        with self._viewer(chance) as viewer:
            viewer.recv(100)
            time.sleep(chance.uniform(2, 6))

    def close(self, chance: random.Random) -> None:
        """Viewers that are reset, and an upload that breaks off."""
        for _ in range(chance.randint(1, 8)):
            with self._viewer(chance) as viewer:
                viewer.recv(chance.randint(1, 5000))
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as upload:
            head = f"POST {self._path(chance)}/audio HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
            upload.sendall(head.encode() + chance.randbytes(500))

    def garbage(self, chance: random.Random) -> None:
        """Speech that is none, by each way in."""
        noise = chance.randbytes(chance.randint(0, 200_000))
        for data in (noise, b"RIFF\xff\xff\xff\xffWAVE" + noise, b"OggS" + noise):
            status, answer = self.server.ask("POST", f"{self._path(chance)}/audio", data, "audio/wav")
            expect(400 <= status < 500, status, answer)
        for query, piece in (("", noise[:101]), ("?codec=opus", noise[:500]), ("?codec=ogg", noise[:500])):
            url = f"ws://127.0.0.1:{self.server.port}{self._path(chance)}/audio{query}"
            with suppress(ConnectionClosed), connect(url, open_timeout=20) as spoken:
                for _ in range(20):
                    spoken.send(piece or b"\0")
                spoken.send("text")
                spoken.recv(timeout=20)

    def worker(self, chance: random.Random) -> None:
        """The process that prepares an avatar is killed."""
        name = self._upload()
        deadline = time.monotonic() + 20
        while not (found := _children(self.server.pid, WORKER)):
            expect(time.monotonic() < deadline, "no avatar is being prepared")
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        state = self._settled(name)
        expect(state in ("failed", "ready"), state)
        self.server.ask("DELETE", f"/v1/avatars/{name}")

    def disk_full(self, chance: random.Random) -> None:
        """No byte is left: what needs some is refused, what does not goes on; then there is room again."""
        filler = self.disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 12))
            status, answer = self.server.ask(
                "POST", f"{self._path(chance)}/audio", bytes(LARGE_UPLOAD_BYTES), "audio/wav"
            )
            expect(status == DISK_FULL_STATUS, status, answer)
            time.sleep(chance.uniform(0, 2))
        finally:
            filler.unlink(missing_ok=True)
        statuses = [watcher.say() for watcher in self.watchers if watcher.path]
        expect(set(statuses) <= {202, 429}, statuses)

    def freeze(self, chance: random.Random) -> None:
        """The service itself stands still for a moment."""
        pid = self.server.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.2, 1.0))
        os.kill(pid, signal.SIGCONT)

    def kill(self, _: random.Random) -> None:
        """The service is killed."""
        os.kill(self.server.pid, signal.SIGKILL)

    def _path(self, chance: random.Random) -> str:
        paths = [path for watcher in self.watchers if (path := watcher.path)]
        expect(bool(paths), "no session runs")
        return chance.choice(paths)

    def _viewer(self, chance: random.Random) -> socket.socket:
        viewer = socket.create_connection(("127.0.0.1", self.server.port), 20)
        viewer.sendall(f"GET {self._path(chance)}/stream.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return viewer

    def _upload(self) -> str:
        self._count += 1
        name = f"made{self._count}"
        status, answer = self.server.ask(
            "POST", f"/v1/avatars?name={name}&face_box={self._box}", self._video, "application/octet-stream"
        )
        expect(status == 202, status, answer)
        return name

    def _settled(self, name: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = str(self.server.ask("GET", f"/v1/avatars/{name}")[1]["state"])
            if state in ("failed", "ready"):
                return state
            time.sleep(0.05)
        return "still being made"


HARMLESS: dict[str, Callable[[Faults, random.Random], None]] = {
    "stall": Faults.stall,
    "close": Faults.close,
    "garbage": Faults.garbage,
    "worker": Faults.worker,
    "disk full": Faults.disk_full,
}
"""Those that no other viewer is to notice."""


def _children(pid: int, command: bytes) -> list[int]:
    """The processes that `pid` has begun with `command` among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and command in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found
