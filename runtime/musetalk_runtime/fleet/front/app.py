"""The ASGI application of a fleet's front end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from musetalk_runtime.core.version import __version__
from musetalk_runtime.fleet.front import avatars, health, sessions
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.service.http.error_answers import add_error_answers
from musetalk_runtime.service.http.head import HeadMiddleware
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.app_security import add_security
from musetalk_runtime.service.security.request_limits import RequestLimitsMiddleware

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

    app = FastAPI(
        title="musetalk-edge fleet",
        description=DESCRIPTION,
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.front, app.state.access = front, access
    app.state.routers = [sessions.router, avatars.router, health.router]
    for router in app.state.routers:
        app.include_router(router)
    add_security(app, access, public=())
    app.add_middleware(RequestLimitsMiddleware, body_timeout=lambda: front.settings.body_timeout)
    app.add_middleware(HeadMiddleware)
    add_error_answers(app)
    return app
