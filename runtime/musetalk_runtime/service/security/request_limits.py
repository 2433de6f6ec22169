"""The middleware that limits the bodies of requests and adds security headers to answers."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musetalk_runtime.service.errors import ServiceError

MAX_BODY_BYTES = 64 << 10  # of a request's JSON
UPLOAD_PATHS = ("/audio", "/v1/avatars")  # the ends of paths that take larger bodies
CLOSE = {"Connection": "close"}
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


class RequestLimitsMiddleware:
    """ASGI middleware: limits the body of a request, and adds the headers that keep a page safe.

    A body needs a ``Content-Length`` of at most 64 KiB, and each piece of it has to come within the seconds that
    `body_timeout` gives. The handlers of UPLOAD_PATHS limit theirs themselves.
    """

    def __init__(self, app: ASGIApp, body_timeout: Callable[[], float]) -> None:
        self._app = app
        self._body_timeout = body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        reads = scope["type"] == "http" and not scope["path"].endswith(UPLOAD_PATHS)
        if reads and (error := _refusal(scope)):
            await JSONResponse(error.to_json(), error.status, error.headers)(scope, receive, send_with_headers)
        else:
            await self._app(
                scope,
                _in_time(receive, self._body_timeout()) if reads and _length(scope) else receive,
                send_with_headers,
            )


def _refusal(scope: Scope) -> ServiceError | None:
    length = _length(scope)
    if b"transfer-encoding" in dict(scope["headers"]):
        return ServiceError(411, "length_required", "send a Content-Length", CLOSE)
    if length > MAX_BODY_BYTES:
        return ServiceError(413, "too_large", f"a body of {length} bytes, at most {MAX_BODY_BYTES} are taken", CLOSE)
    return None


def _length(scope: Scope) -> int:
    """Bytes of the body. The server has checked that it is a number."""
    return int(dict(scope["headers"]).get(b"content-length", b"0"))


def _in_time(receive: Receive, seconds: float) -> Receive:
    """`receive` with a time limit for each piece of the body, in `seconds`; then the client counts as gone."""
    whole = False

    async def receive_in_time() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except asyncio.TimeoutError:
            message = {"type": "http.disconnect"}
        whole = not message.get("more_body")
        return message

    return receive_in_time
