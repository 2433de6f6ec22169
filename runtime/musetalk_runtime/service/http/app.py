"""The ASGI application of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.routing import Route

from musetalk_runtime.core.version import __version__
from musetalk_runtime.service.api import audio, avatars, fleet, health, hls, limits, sessions, streams, text, whep
from musetalk_runtime.service.api.page_files import site_router
from musetalk_runtime.service.http.error_answers import add_error_answers
from musetalk_runtime.service.http.head import HeadMiddleware
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.app_security import add_security
from musetalk_runtime.service.security.request_limits import RequestLimitsMiddleware
from musetalk_runtime.service.security.signed_tokens import SignedTokens
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
    modules = [sessions, avatars, audio, text, streams, whep, hls, limits, health]
    if isinstance(access.tokens, SignedTokens):
        modules.append(fleet)
    app.state.routers = [*(module.router for module in modules), site]
    for router in app.state.routers:
        app.include_router(router)
    add_security(app, access, public=[route.path for route in site.routes if isinstance(route, Route)])
    app.add_middleware(RequestLimitsMiddleware, body_timeout=lambda: service.settings.body_timeout)
    app.add_middleware(HeadMiddleware)
    add_error_answers(app)
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
