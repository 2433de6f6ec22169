"""The server: the service's application on a socket."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.service.http.app import create_app
from musetalk_runtime.service.http.descriptors import raise_limit
from musetalk_runtime.service.http.protocol import limited_protocol
from musetalk_runtime.service.http.systemd import notify, watchdog_seconds
from musetalk_runtime.service.http.watchdog import Watchdog
from musetalk_runtime.service.http.websocket_protocol import WebSocketProtocol
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.service import Service

STALL_TIMEOUT_MS = 60_000  # a client that takes nothing for so long is cut off
MAX_CONNECTIONS = 1024
BACKLOG = 64  # asyncio accepts so many at once, and logs a line for each that it cannot
PING_S = 5.0  # seconds between pings of a WebSocket, and for their answer: then a client that is gone is cut off
MAX_MESSAGE_BYTES = 256 << 10  # of a WebSocket message


class ExpectedCuts(logging.Filter):
    """Leaves out of the log the responses that are cut on purpose, so that the viewer sees that it has not got all, and
    the sockets whose client went away before they were accepted.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return "returned without completing" not in record.getMessage()


EXPECTED_CUTS = ExpectedCuts()


class Server(uvicorn.Server):
    """Serves a service until SIGINT, SIGTERM or SIGHUP; then refuses what is new and gives running streams time to end.

    It ends by itself once the service is dead, so that a supervisor starts it anew.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        logging.getLogger("uvicorn.error").addFilter(EXPECTED_CUTS)
        super().__init__(_config(create_app(service, access), service))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, and a closed terminal as SIGTERM, unless nohup has it ignored."""
        with super().capture_signals():
            here = threading.current_thread() is threading.main_thread()
            previous = signal.getsignal(signal.SIGHUP)
            if here and previous != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                if here and previous is not None:
                    signal.signal(signal.SIGHUP, previous)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._service.dead

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.drain()
        await super().shutdown(sockets)


class SupervisedServer(Server):
    """A server that tells systemd when it is ready and, where that waits for it, that frames are made."""

    _watchdog: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")
        if seconds := watchdog_seconds():
            self._watchdog = asyncio.create_task(Watchdog(self._service).run(seconds))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        if self._watchdog:
            self._watchdog.cancel()
        await super().shutdown(sockets)


def _config(app: FastAPI, service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",  # it keeps the interpreter's lock while it sends: many threads want it
        http=limited_protocol(lambda: service.settings.head_timeout, min(MAX_CONNECTIONS, raise_limit())),
        backlog=BACKLOG,
        ws=WebSocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        timeout_graceful_shutdown=max(1, round(service.settings.grace)),
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,  # its loggers are as the program's own
        log_level="warning",
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`, 0 for a free one; raises OutputError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by that
    except OSError as error:
        raise OutputError(f"{host}: cannot be listened on: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with contextlib.suppress(AttributeError):  # Linux alone; accepted sockets inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OutputError(f"{host}:{port}: cannot be listened on: {error.strerror}") from None
    return listener
