"""What holds for every request and every answer."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 64 << 10  # bytes of a request's JSON
PATIENCE = 20.0  # seconds in which a piece of it has to come
UPLOADS = ("/audio", "/v1/avatars")  # where paths end
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: bounds the body of a request, and adds the headers that keep a page safe.

    A body needs a ``Content-Length`` of at most 64 KiB; those of UPLOADS, which their handlers bound, may have more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        reads = scope["type"] == "http" and not scope["path"].endswith(UPLOADS)
        if reads and (refusal := _refusal(scope)):
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, _in_time(receive) if reads and _length(scope) else receive, send_with_headers)


def _refusal(scope: Scope) -> JSONResponse | None:
    length = _length(scope)
    if b"transfer-encoding" in dict(scope["headers"]):
        return _error(411, "length_required", "send a Content-Length")
    if length > BODY:
        return _error(413, "too_large", f"a body of {length} bytes, at most {BODY} are taken")
    return None


def _length(scope: Scope) -> int:
    """Bytes of the body; the server has looked that it is a number."""
    return int(dict(scope["headers"]).get(b"content-length", b"0"))


def _in_time(receive: Receive) -> Receive:
    """`receive` for a body that comes, or the client is taken to be gone."""
    whole = False

    async def receive_in_time() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), PATIENCE)
        except asyncio.TimeoutError:
            message = {"type": "http.disconnect"}
        whole = not message.get("more_body")
        return message

    return receive_in_time


def _error(status: int, code: str, message: str) -> JSONResponse:
    content = {"error": {"code": code, "message": message}}
    return JSONResponse(content, status, {"Connection": "close"})
