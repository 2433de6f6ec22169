"""The service as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from musetalk_runtime import __version__
from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.service.api import audio, avatars, health, hls, limits, sessions, streams
from musetalk_runtime.service.api.page_files import site_router
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.protect import protect
from musetalk_runtime.service.security.request_limits import Guard
from musetalk_runtime.service.service import Service

DESCRIPTION = """\
Live sessions of talking faces. Begin one, send it speech, watch it: generation belongs to the session, so that
any number may watch, come late, drop out and come back, and nothing is made twice. Every error has one form."""


def create_app(service: Service, access: Access) -> FastAPI:
    """The API and the page, on `service`, for those whom `access` lets in; its sessions end with the application."""
    app = FastAPI(
        title="musetalk-edge",
        description=DESCRIPTION,
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service, app.state.access = service, access
    site = site_router()
    for module in (sessions, avatars, audio, streams, hls, limits, health):
        app.include_router(module.router)
    app.include_router(site)
    protect(app, access, public=[route.path for route in site.routes if isinstance(route, Route)])
    app.add_middleware(Guard)
    app.add_exception_handler(Exception, _answer)
    for kind in (MuseTalkEdgeError, HTTPException, RequestValidationError, OSError):
        app.add_exception_handler(kind, _answer)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    tending = asyncio.create_task(service.tend())
    try:
        yield
    finally:
        tending.cancel()
        with suppress(asyncio.CancelledError):
            await tending
        await service.ended()


async def _answer(_: Request, error: Exception) -> Response:
    """Any error, in the one form of errors."""
    status, code, message, headers = _describe(error)
    content = {"error": {"code": code, "message": message}}
    return JSONResponse(content, status, headers)


def _describe(error: Exception) -> tuple[int, str, str, dict[str, str]]:
    if isinstance(error, ServiceError):
        return error.status, error.code, str(error), error.headers
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return 422, "invalid_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}", {}
    if isinstance(error, HTTPException):
        return error.status_code, "http_error", str(error.detail), dict(error.headers or {})
    if isinstance(error, MuseTalkEdgeError):
        return 422, "invalid_request", one_line(error), {}
    if isinstance(error, OSError):
        return 507, "no_storage", f"a file cannot be written: {error.strerror}", {}
    return 500, "internal_error", "a bug: the log has more", {}
