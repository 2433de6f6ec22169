"""Who is let in."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Token

REALM = {"WWW-Authenticate": 'Bearer realm="musetalk-edge"'}


class Gate:
    """ASGI middleware: lets a request or a WebSocket through that comes by a known host, from no foreign page, and
    with a token or a signed link, but for the paths in `public`. Whose it is, is in ``state.token``.

    Starlette's TrustedHostMiddleware would want every address listed; that of no one can be a foreign page's.
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
                content = {"error": {"code": error.code, "message": str(error)}}
                await JSONResponse(content, error.status, error.headers)(scope, receive, send)
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
        if token is None and not self._linked(scope, path):
            raise ServiceError(401, "unauthorized", "it wants a token, or a signed link that has not expired", REALM)
        return token

    def _linked(self, scope: Scope, path: str) -> bool:
        reads = scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD")
        return reads and self._access.links.good(path, scope["query_string"])


def _path(scope: Scope, root_path: str) -> str:
    """The path as the routes have it: some proxies take the prefix away, others leave it."""
    path: str = scope["path"]
    return path[len(root_path) :] if root_path and path.startswith(root_path + "/") else path
