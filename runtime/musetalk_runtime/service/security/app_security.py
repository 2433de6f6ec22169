"""The access rules of an application: its middleware, and the security section of its OpenAPI description."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.auth_middleware import AuthMiddleware

PUBLIC = ("/healthz", "/readyz", "/v1/openapi.json")
BEARER = {"type": "http", "scheme": "bearer", "description": "a token, from `musetalk-edge token`"}


def add_security(app: FastAPI, access: Access, public: Iterable[str]) -> None:
    """Restrict `app` to those whom `access` lets in, but for its health and the paths in `public`."""
    app.add_middleware(AuthMiddleware, access=access, public={*PUBLIC, *public})
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Range"],
            expose_headers=["Stream-Init", "Stream-Offset", "Content-Range", "Retry-After", "Location", "Link"],
        )
    if access.tokens:
        app.openapi = lambda: _openapi_with_security(app)  # type: ignore[method-assign]


def _openapi_with_security(app: FastAPI) -> dict[str, Any]:
    description = FastAPI.openapi(app)
    description["components"]["securitySchemes"] = {"token": BEARER}
    description["security"] = [{"token": []}]
    for path in PUBLIC:
        for operation in description["paths"].get(path, {}).values():
            operation["security"] = []
    return description
