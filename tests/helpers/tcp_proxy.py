"""A proxy that hands bytes on, and can be cut and restarted."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue

AWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\nConnection: close\r\n\r\n502"


class TcpProxy:
    """Listens on a port of its own, ``port``, for what is meant for `target` on this machine. A context manager.

    While ``away`` is set it answers as a proxy does whose server is away. What it hands on comes `delay` seconds later.
    """

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self.away = False
        self._sockets: set[socket.socket] = set()
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.start()

    def aim(self, target: int) -> None:
        """Hand what comes from now on to another port."""
        self._target = target

    def start(self) -> None:
        """Take connections, again after `stop`."""
        if self._listener.fileno() < 0:
            self._listener = _listen(self.port)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Take no more connections, and cut those there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "TcpProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                if self.away:
                    near.sendall(AWAY)
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            for data in _received(one, self._delay):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
        one.close()
        self._sockets.discard(one)


def _received(end: socket.socket, delay: float) -> Iterator[bytes]:
    """What comes there, each `delay` seconds after it came."""
    waiting: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def read() -> None:
        data = b"begin"
        while data:
            try:
                data = end.recv(65536)
            except OSError:
                data = b""
            waiting.put((time.monotonic() + delay, data))

    threading.Thread(target=read, daemon=True).start()
    while True:
        due, data = waiting.get()
        time.sleep(max(0.0, due - time.monotonic()))
        if not data:
            return
        yield data


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener
