"""An application with an API: what every one of them does before a request is handled, and with its errors."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI

from musetalk_runtime.core.version import __version__
from musetalk_runtime.service.http.error_answers import add_error_answers
from musetalk_runtime.service.http.head import HeadMiddleware
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.app_security import add_security
from musetalk_runtime.service.security.request_limits import RequestLimitsMiddleware


def api_app(
    title: str,
    description: str,
    routers: Sequence[APIRouter],
    access: Access,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    body_timeout: Callable[[], float],
    public: Collection[str] = (),
) -> FastAPI:
    """The application of `routers`, for those whom `access` lets in, and for everybody at the paths in `public`.

    A body has `body_timeout` seconds to come in, as RequestLimitsMiddleware has it.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.access, app.state.routers = access, routers
    for router in routers:
        app.include_router(router)
    add_security(app, access, public=public)
    app.add_middleware(RequestLimitsMiddleware, body_timeout=body_timeout)
    app.add_middleware(HeadMiddleware)
    add_error_answers(app)
    return app
