"""The middleware that answers HEAD."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """ASGI middleware: a HEAD request is answered as GET is, without the body (RFC 9110, section 9.3.2).

    Balancers and uptime monitors ask so. A stream is left as soon as its headers are there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        requested = False

        async def receive_once() -> Message:
            nonlocal requested
            if requested:
                await answered.wait()
                return {"type": "http.disconnect"}
            requested = True
            return await receive()

        await self._app({**scope, "method": "GET"}, receive_once, send_headers)
