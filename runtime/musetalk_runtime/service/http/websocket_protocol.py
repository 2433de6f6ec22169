"""uvicorn's WebSocket protocol, patient with a client whose messages wait."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The answer to a ping lies behind messages that the application does not want yet. So its deadline counts from
    when a message was taken last, and not while nothing is read.
    """

    _taken_at = 0.0

    async def receive(self) -> Any:
        message = await super().receive()
        self._taken_at = self.loop.time()
        return message

    def keepalive_timeout(self) -> None:
        timeout = self.ping_timeout or 0.0
        left = timeout if self.read_paused else self._taken_at + timeout - self.loop.time()
        if left > 0:
            self.pong_timer = self.loop.call_later(left, self.keepalive_timeout)
        else:
            super().keepalive_timeout()
