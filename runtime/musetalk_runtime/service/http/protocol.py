"""uvicorn's HTTP/1.1 protocol with a time limit for the head of a request."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class HeadTimeoutProtocol(H11Protocol):
    """Closes a connection that does not send a whole head in time. uvicorn alone would wait for ever.

    ``head_timeout`` gives the seconds: a subclass sets it, since uvicorn makes the protocols.
    """

    head_timeout: Callable[[], float]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self._forget()
        self._deadline = self.loop.call_later(type(self).head_timeout(), self._give_up)

    def _forget(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and self.transport.get_protocol() is self:  # and not a WebSocket's by now
            self.transport.close()


def with_head_timeout(seconds: Callable[[], float]) -> type[HeadTimeoutProtocol]:
    """The protocol with a time limit that is asked for anew for each request."""
    return type("HeadTimeoutProtocol", (HeadTimeoutProtocol,), {"head_timeout": staticmethod(seconds)})
