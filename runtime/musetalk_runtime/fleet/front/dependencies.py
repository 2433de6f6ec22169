"""The dependencies of the front end's request handlers."""

from typing import Annotated

from fastapi import Path
from starlette.requests import HTTPConnection

from musetalk_runtime.fleet.front.front import Front, session_id
from musetalk_runtime.fleet.session_id import SessionId
from musetalk_runtime.service.api.in_loop import in_loop
from musetalk_runtime.service.security.access import token_of
from musetalk_runtime.service.security.tokens import Token


def front_of(connection: HTTPConnection) -> Front:
    """The front end behind the app."""
    front: Front = connection.app.state.front
    return front


def key_of(key: Annotated[str, Path(alias="id", max_length=192, description="a session's id")]) -> SessionId:
    """The id that a path names; raises ServiceError."""
    return session_id(key)


TheFront = Annotated[Front, in_loop(front_of)]
TheKey = Annotated[SessionId, in_loop(key_of)]
TheOwner = Annotated[Token | None, in_loop(token_of)]
