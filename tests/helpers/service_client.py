"""A real server on a free port, and a client for it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from musetalk_runtime.service.http.server import SupervisedServer, listen
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.playback_clock import PlaybackClock


class Client:
    """Plain HTTP, a connection a request."""

    def __init__(self, port: int, token: str | None = None, root: str = "") -> None:
        self.port = port
        self._root = root  # what a proxy wants before every path
        self.authorization = f"Bearer {token}" if token else ""
        self._headers = {"Connection": "close", **({"Authorization": self.authorization} if token else {})}

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer is there
            connection.request(method, self._root + path, body, {**self._headers, **headers})
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON, or text."""
        with self.request(method, path, body, **headers) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] in ("{", "[") else text

    def begin(self, **wanted: Any) -> str:
        status, session = self.ask("POST", "/v1/sessions", {"avatar": "one", "fps": 25, **wanted})
        assert status == 201, session
        return f"/v1/sessions/{session['id']}"

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        name = ""
        with self.request("GET", f"{path}/events") as answer:
            for line in answer:
                key, _, value = line.decode().strip().partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    yield name, json.loads(value)

    def warnings(self, path: str) -> Iterator[str]:
        """The messages of its warnings from now on; that a busy machine is slow is not among them."""
        events = self.events(path)
        next(events)
        return (
            content["message"]
            for name, content in events
            if name == "warning" and content["message"] != "this machine is slow at the moment"
        )


class Viewer(threading.Thread):
    """Watches until the end, or `limit` bytes: ``init``, ``offset`` in the stream, ``data`` from there on.

    A viewer joins at the newest keyframe; one of the `whole` stream has it from its first frame, however late it comes.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        query: str = "",
        limit: int = 1 << 40,
        whole: bool = False,
        **headers: str,
    ) -> None:
        super().__init__()
        query = "?from=1" if whole else query
        self.answer = client.request("GET", f"{path}/stream.mp4{query}", **headers)
        self.status = self.answer.status
        self.offset = int(self.answer.headers.get("Stream-Offset", 0))
        self._init = 0 if headers or "from" in query else int(self.answer.headers.get("Stream-Init", 0))
        self._limit = limit
        self._body = b""
        self._head = b""
        if whole:
            with client.request("GET", f"{path}/hls/init.mp4") as answer:
                self._head = answer.read()
        self.cut = False
        self.start()

    def run(self) -> None:
        try:
            while len(self._body) < self._limit and (data := self.answer.read1(65536)):
                self._body += data
        except (http.client.IncompleteRead, ConnectionResetError):
            self.cut = True
        self.answer.close()

    @property
    def init(self) -> bytes:
        return self._head or self._body[: self._init]

    @property
    def data(self) -> bytes:
        return self._body[self._init :]

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class HeldClock(PlaybackClock):
    """Playback that goes no further than ``limit`` seconds, until a test sets that higher."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def now(self) -> float:
        now = super().now()
        if now > self.limit and self._zero is not None:
            self._zero += now - self.limit
        return min(now, self.limit)


class HeldPort:
    """A TCP ``port`` of this machine that nobody is given by chance, for a server that is to come, go and come back.

    Until then, connections are refused. The server has to set SO_REUSEADDR, as most do.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> "HeldPort":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextmanager
def serving(service: Service, access: Access | None = None) -> Iterator[Any]:
    server: Any = SupervisedServer(service, access or Access())
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # so that a viewer that stalls is soon noticed
        server.port = listener.getsockname()[1]
        thread.start()
        until(lambda: server.started, "the server starts")
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join()


def end_sessions(service: Service) -> None:
    """Stop all sessions of `service`, and wait for their end."""
    for session in service.sessions.running:
        session.stop()
    until(lambda: not service.sessions.running, "the sessions end")


@contextmanager
def asking_by_token(service: Service, folder: Path) -> Iterator[Client]:
    """A client with a token, of a server that wants one and keeps its hash in `folder`."""
    text = add_token(folder / "tokens.txt", "anna", None, None)
    with serving(service, Access(Tokens(folder / "tokens.txt"))) as running:
        yield Client(running.port, text)


def until(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
