"""The answers that an application gives for errors: all have one form."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.service.errors import ServiceError


def add_error_answers(app: FastAPI) -> None:
    """Have `app`, whose routers are in ``app.state.routers``, answer every error as ServiceError says."""
    for kind in (Exception, MuseTalkEdgeError, HTTPException, RequestValidationError, OSError):
        app.add_exception_handler(kind, _answer)


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
