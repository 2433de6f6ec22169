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

from musetalk_runtime.service.access import Access
from musetalk_runtime.service.server import Server, listen
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.tokens import Tokens, add_token


class Client:
    """Plain HTTP, a connection a request."""

    def __init__(self, port: int, token: str | None = None, root: str = "") -> None:
        self.port = port
        self._root = root  # what a proxy wants before every path
        self.authorization = f"Bearer {token}" if token else ""
        self._headers = {"Connection": "close", **({"Authorization": self.authorization} if token else {})}

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
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


class Viewer(threading.Thread):
    """Watches until the end, or `limit` bytes: ``init``, ``offset`` in the stream, ``data`` from there on."""

    def __init__(self, client: Client, path: str, query: str = "", limit: int = 1 << 40, **headers: str) -> None:
        super().__init__()
        self.answer = client.request("GET", f"{path}/stream.mp4{query}", **headers)
        self.status = self.answer.status
        self.offset = int(self.answer.headers.get("Stream-Offset", 0))
        self._init = 0 if headers or "from" in query else int(self.answer.headers.get("Stream-Init", 0))
        self._limit = limit
        self._body = b""
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
        return self._body[: self._init]

    @property
    def data(self) -> bytes:
        return self._body[self._init :]

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@contextmanager
def serving(service: Service, access: Access | None = None) -> Iterator[Any]:
    server: Any = Server(service, access or Access())
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


@contextmanager
def asking_by_token(service: Service, folder: Path) -> Iterator[Client]:
    """A client with a token, of a server that wants one and keeps its hash in `folder`."""
    text = add_token(folder / "tokens.txt", "anna", None, None)
    with serving(service, Access(Tokens(folder / "tokens.txt"))) as running:
        yield Client(running.port, text)


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
