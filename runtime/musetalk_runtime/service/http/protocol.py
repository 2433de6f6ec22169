"""uvicorn's HTTP/1.1 protocol with limits: of the time for a request's head, and of connections."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

WARNING_INTERVAL_S = 60.0
log = logging.getLogger(__name__)


class LimitedProtocol(H11Protocol):
    """Closes a connection that does not send a whole head in time, where uvicorn alone would wait for ever. Where there
    are too many connections, the one that has waited longest without a request makes room, or else the new one.

    Subclasses set what is below, for uvicorn makes the protocols: ``head_timeout`` gives seconds, ``most`` is how many
    connections there may be, ``waiting`` holds those of the server, the oldest first.
    """

    head_timeout: Callable[[], float]
    most: int
    waiting: "dict[LimitedProtocol, None]"
    warned_at = -WARNING_INTERVAL_S

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._make_room()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """Whether it answers nothing, and is no WebSocket's by now."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering and self.transport.get_protocol() is self

    def _make_room(self) -> None:
        kind = type(self)
        if time.monotonic() - kind.warned_at > WARNING_INTERVAL_S:
            kind.warned_at = time.monotonic()
            log.warning("more than %d connections: those that ask for nothing are closed", self.most)
        next((other for other in self.waiting if other.idle), self).transport.abort()

    def _wait(self) -> None:
        self._forget()
        self.waiting[self] = None
        self._deadline = self.loop.call_later(type(self).head_timeout(), self._give_up)

    def _forget(self) -> None:
        self.waiting.pop(self, None)
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.idle:
            self.transport.close()


def limited_protocol(head_timeout: Callable[[], float], most: int) -> type[LimitedProtocol]:
    """The protocol of one server; `head_timeout` is asked anew for each request."""
    limits = {"head_timeout": staticmethod(head_timeout), "most": most, "waiting": {}}
    return type("LimitedProtocol", (LimitedProtocol,), limits)
