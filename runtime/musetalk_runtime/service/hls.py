"""``/v1/sessions/{id}/hls``: the same fragments for players that want HLS, such as Safari, and for caches."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.requests import HTTPConnection

from musetalk_runtime.service.broadcast import Broadcast
from musetalk_runtime.service.context import ERRORS, TheAccess, own, service_of
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.segments import Segment, playlist, whole_segments
from musetalk_runtime.service.service import RETRY

FIRST_SEGMENT = 20.0  # seconds a player waits for it
PLAYLIST: dict[int | str, dict[str, Any]] = {200: {"content": {"application/vnd.apple.mpegurl": {}}}}
VIDEO: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}

router = APIRouter(prefix="/v1/sessions/{id}/hls", tags=["viewing"], responses=ERRORS)


def _watched(connection: HTTPConnection, key: Annotated[str, Path(alias="id", max_length=64)]) -> Broadcast:
    session = own(connection, service_of(connection).get(key, ending=True))
    session.touch()
    return session


Watched = Annotated[Broadcast, Depends(_watched)]


@router.get("/stream.m3u8", response_class=Response, responses=PLAYLIST)
async def show_playlist(session: Watched, request: Request) -> Response:
    """Watch by HLS: a live playlist of the newest segments of a second each, from a keyframe to the next.

    The query of this address, its signature, goes with those in it.
    """
    try:
        await asyncio.wait_for(_begun(session), FIRST_SEGMENT)
    except asyncio.TimeoutError:
        raise ServiceError(503, "starting", f"no segment within {FIRST_SEGMENT:g} s", RETRY) from None
    text = playlist(_segments(session), request.url.query, session.window.ended)
    return Response(text, media_type="application/vnd.apple.mpegurl", headers={"Cache-Control": "no-cache"})


@router.get("/init.mp4", response_class=Response, responses=VIDEO)
async def show_init(session: Watched, access: TheAccess) -> Response:
    """What sets the player up."""
    if session.window.init is None:
        raise _unknown()
    return _media(session.window.init, private=access.tokens is not None)


@router.get("/{number}.m4s", response_class=Response, responses=VIDEO)
async def show_segment(session: Watched, access: TheAccess, number: Annotated[int, Path(ge=1, lt=1 << 31)]) -> Response:
    """One segment, while it is held."""
    for segment in _segments(session):
        if segment.number == number:
            return _media(segment.data, private=access.tokens is not None)
    raise _unknown()


async def _begun(session: Broadcast) -> None:
    while not session.window.ended and not _segments(session):
        await session.window.changed()


def _segments(session: Broadcast) -> list[Segment]:
    end = float(session.frames / session.fps) if session.window.ended else None
    return whole_segments(session.window.held(), end)


def _media(data: bytes, private: bool) -> Response:
    cache = f"{'private' if private else 'public'}, max-age=60, immutable"
    return Response(data, media_type="video/mp4", headers={"Cache-Control": cache})


def _unknown() -> ServiceError:
    return ServiceError(404, "unknown_segment", "that segment is no longer held, or not there yet")
