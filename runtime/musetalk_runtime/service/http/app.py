"""The ASGI application of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.core.version import __version__
from musetalk_runtime.service.api import audio, avatars, health, hls, limits, sessions, streams, text, whep
from musetalk_runtime.service.api.page_files import site_router
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.http.head import HeadMiddleware
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.app_security import add_security
from musetalk_runtime.service.security.request_limits import RequestLimitsMiddleware
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
    modules = (sessions, avatars, audio, text, streams, whep, hls, limits, health)
    app.state.routers = [*(module.router for module in modules), site]
    for router in app.state.routers:
        app.include_router(router)
    add_security(app, access, public=[route.path for route in site.routes if isinstance(route, Route)])
    app.add_middleware(RequestLimitsMiddleware, body_timeout=lambda: service.settings.body_timeout)
    app.add_middleware(HeadMiddleware)
    app.add_exception_handler(Exception, _answer)
    for kind in (MuseTalkEdgeError, HTTPException, RequestValidationError, OSError):
        app.add_exception_handler(kind, _answer)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    tasks = [asyncio.create_task(service.maintain()), asyncio.create_task(service.load_synthesizer())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await service.shut_down()


async def _answer(request: Request, error: Exception) -> Response:
    found = _service_error(error)
    headers = dict(found.headers)
    if found.status == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return JSONResponse(found.to_json(), found.status, headers)


def _methods(request: Request) -> list[str]:
    """The methods that the path of `request` takes."""
    routes = [route for router in request.app.state.routers for route in router.routes if isinstance(route, Route)]
    methods = {m for route in routes if route.matches(request.scope)[0] != Match.NONE for m in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _service_error(error: Exception) -> ServiceError:
    """What the client is told of any error."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return ServiceError(422, "invalid_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if isinstance(error, HTTPException):
        return ServiceError(error.status_code, "http_error", str(error.detail), dict(error.headers or {}))
    if isinstance(error, MuseTalkEdgeError):
        return ServiceError(422, "invalid_request", one_line(error))
    if isinstance(error, OSError):
        return ServiceError(507, "no_storage", f"a file cannot be written: {error.strerror}")
    return ServiceError(500, "internal_error", "a bug: the log has more")
