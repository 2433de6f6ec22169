"""The ASGI application of a fleet's front end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from musetalk_runtime.fleet.front import avatars, health, sessions
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.service.http.api_app import api_app
from musetalk_runtime.service.security.access import Access

DESCRIPTION = """\
Live sessions of talking faces, on many devices. Begin one here, as at one device. Its addresses lead to the device that
runs it; all else about it is asked for here."""


def create_front_app(front: Front, access: Access) -> FastAPI:
    """The API of `front`, for those whom `access` lets in."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await front.start()
        try:
            yield
        finally:
            await front.close()

    routers = [sessions.router, avatars.router, health.router]
    app = api_app("musetalk-edge fleet", DESCRIPTION, routers, access, lifespan, lambda: front.settings.body_timeout)
    app.state.front = front
    return app
