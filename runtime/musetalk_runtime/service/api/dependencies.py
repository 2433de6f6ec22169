"""The dependencies of request handlers: the service, its access, and the session of a path."""

from typing import Annotated, Any

from fastapi import Path
from starlette.requests import HTTPConnection

from musetalk_runtime.service.api.in_loop import in_loop
from musetalk_runtime.service.api.schema import ErrorAnswer
from musetalk_runtime.service.errors import ServiceError, unknown_session
from musetalk_runtime.service.security.access import Access, token_of
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.live_session import LiveSession

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The Host is not one of this service's, or the upload ended before its end",
        401: "It wants a token",
        403: "A page of another origin, or something that this service does not do",
        404: "There is no such session or avatar",
        409: "The session has ended",
        422: "The request is not what it should be",
        503: "No capacity, or the service is about to end; see Retry-After",
    }.items()
}


def service_of(connection: HTTPConnection) -> Service:
    """The service behind the app."""
    service: Service = connection.app.state.service
    return service


def access_of(connection: HTTPConnection) -> Access:
    """The rules of access to the app."""
    access: Access = connection.app.state.access
    return access


def session_of(
    connection: HTTPConnection,
    key: Annotated[str, Path(alias="id", max_length=64, description="a session's id")],
) -> LiveSession:
    """The session that a path names, if it is the asker's; raises ServiceError."""
    return check_owner(connection, service_of(connection).sessions.get(key))


def check_owner(connection: HTTPConnection, session: LiveSession) -> LiveSession:
    """`session`, if it is the asker's; raises ServiceError."""
    token = token_of(connection)
    if token and session.owner is not token:
        raise unknown_session()
    return session


TheService = Annotated[Service, in_loop(service_of)]
TheAccess = Annotated[Access, in_loop(access_of)]
TheSession = Annotated[LiveSession, in_loop(session_of)]


def running_session_of(session: TheSession) -> LiveSession:
    """The session that a path names, if it still runs; raises ServiceError."""
    if not session.running:
        raise ServiceError(409, session.state, session.error or "the session has ended")
    return session


TheRunningSession = Annotated[LiveSession, in_loop(running_session_of)]
