"""A response whose body is sent as it is made."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from musetalk_runtime.service.errors import ServiceError

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class StreamingBody(Response):
    """Sends the bytes of `chunks` as they come, until the client is gone; `on_end` is called then, or at their end.

    Where `chunks` raises ServiceError the connection is cut, so that the client sees that it has not got all.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        media_type: str,
        on_end: Callable[[], None],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, status, {**HEADERS, **(headers or {})}, media_type)
        del self.headers["content-length"]
        self._chunks = chunks
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        sending, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.wait([sending, gone])
            self._on_end()
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(self._chunks) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except ServiceError:
            return
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
