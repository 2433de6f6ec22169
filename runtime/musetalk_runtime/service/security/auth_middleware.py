"""The middleware that checks the host, the origin, and the token or signature of a request."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Token

WHEP = re.compile(r"/v1/sessions/[^/]+/whep(/[^/]+)?")  # viewers post an offer there, and delete their connection
REALM = {"WWW-Authenticate": 'Bearer realm="musetalk-edge"'}


class AuthMiddleware:
    """ASGI middleware: admits a request or a WebSocket with a known host, from no foreign page, and with a token or a
    signed URL. The paths in `public` need neither. ``state.token`` is the token, or None.

    Starlette's TrustedHostMiddleware would need a list of all addresses, though no foreign page has an IP address for
    its host.
    """

    def __init__(self, app: ASGIApp, access: Access, public: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                scope.setdefault("state", {})["token"] = self._admit(scope)
            except ServiceError as error:
                await JSONResponse(error.to_json(), error.status, error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Token | None:
        access, headers = self._access, Headers(scope=scope)
        host = access.host(scope)
        if not access.knows(host):
            raise ServiceError(400, "unknown_host", f"this service is not {host[:80]!r}: --allow-host makes it so")
        if not access.trusts(headers.get("origin"), host):
            raise ServiceError(403, "foreign_page", "pages of that origin may not use it: --allow-origin lets them")
        path = _path(scope, access.root_path)
        scope.update(root_path=access.root_path, path=access.root_path + path)
        if access.tokens is None or path in self._public:
            return None
        kind, _, text = headers.get("authorization", "").partition(" ")
        token = access.tokens.find(text.strip()) if kind.lower() == "bearer" else None
        if token is None and not self._has_signature(scope, path):
            raise ServiceError(401, "unauthorized", "it wants a token, or a signed link that has not expired", REALM)
        return token

    def _has_signature(self, scope: Scope, path: str) -> bool:
        reads = scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD") or WHEP.fullmatch(path)
        return bool(reads) and self._access.signed_urls.verify(path, scope["query_string"])


def _path(scope: Scope, root_path: str) -> str:
    """The path as the routes have it: some proxies take the prefix away, others leave it."""
    path: str = scope["path"]
    return path[len(root_path) :] if root_path and path.startswith(root_path + "/") else path
