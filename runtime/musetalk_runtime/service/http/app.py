"""The ASGI application of the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.routing import Route

from musetalk_runtime.service.api import audio, avatars, fleet, health, hls, limits, sessions, streams, text, whep
from musetalk_runtime.service.api.page_files import site_router
from musetalk_runtime.service.http.api_app import api_app
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.signed_tokens import SignedTokens
from musetalk_runtime.service.service import Service

DESCRIPTION = """\
Live sessions of talking faces. Begin one, send it speech, watch it: generation belongs to the session, so that
any number may watch, come late, drop out and come back, and nothing is made twice. Every error has one form."""


def create_app(service: Service, access: Access) -> FastAPI:
    """The API and the page, on `service`, for those whom `access` lets in; its sessions end with the application."""
    site = site_router()
    modules = [sessions, avatars, audio, text, streams, whep, hls, limits, health]
    if isinstance(access.tokens, SignedTokens):
        modules.append(fleet)
    app = api_app(
        "musetalk-edge",
        DESCRIPTION,
        [*(module.router for module in modules), site],
        access,
        _lifespan,
        lambda: service.settings.body_timeout,
        public=[route.path for route in site.routes if isinstance(route, Route)],
    )
    app.state.service = service
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
