"""``/v1/sessions/{id}/hls``: the same fragments for players that want HLS, such as Safari, and for caches."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import HTTPConnection

from musetalk_runtime.service.api.dependencies import ERRORS, TheAccess, TheService, check_owner, service_of
from musetalk_runtime.service.api.in_loop import in_loop
from musetalk_runtime.service.delivery.hls_playlist import Playlist
from musetalk_runtime.service.delivery.hls_segments import cut
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.session.live_session import LiveSession

FIRST_SEGMENT_TIMEOUT_S = 20.0  # seconds a player waits for the first segment
MAX_AHEAD = 2  # segments that a player may ask for ahead of the last whole one
PLAYLIST: dict[int | str, dict[str, Any]] = {200: {"content": {"application/vnd.apple.mpegurl": {}}}}
VIDEO: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}

router = APIRouter(prefix="/v1/sessions/{id}/hls", tags=["viewing"], responses=ERRORS)


def _watched_session(connection: HTTPConnection, key: Annotated[str, Path(alias="id", max_length=64)]) -> LiveSession:
    session = check_owner(connection, service_of(connection).sessions.get(key, ending=True))
    session.audience.touch()
    return session


Watched = Annotated[LiveSession, in_loop(_watched_session)]
Number = Annotated[int, Path(ge=1, lt=1 << 31)]
Index = Annotated[int, Path(ge=0, lt=1 << 31)]


@router.get("/stream.m3u8", response_class=Response, responses=PLAYLIST)
async def show_playlist(
    session: Watched,
    service: TheService,
    request: Request,
    segment: Annotated[int | None, Query(alias="_HLS_msn", ge=0, lt=1 << 31)] = None,
    part: Annotated[int | None, Query(alias="_HLS_part", ge=0, lt=1 << 31)] = None,
) -> Response:
    """Watch by HLS: a live playlist of the newest segments of a second each, from a keyframe to the next.

    Low-latency HLS: the newest segments are listed in parts of about a third of a second too. `_HLS_msn` and
    `_HLS_part` are for its players: they wait for that segment, or that part of it. The query of this address, its
    signature, goes with those in it.
    """
    if segment is None and part is not None:
        raise ServiceError(400, "no_segment", "_HLS_part needs _HLS_msn")
    await _until(session, lambda: any(one.whole for one in _playlist(session).segments), FIRST_SEGMENT_TIMEOUT_S)
    if segment is not None:
        if segment > _playlist(session).next_part[0] - 1 + MAX_AHEAD:
            raise ServiceError(400, "too_far", f"segment {segment} is more than {MAX_AHEAD} ahead")
        await _until(session, lambda: _playlist(session).has(segment, part), service.settings.hls_wait)
    query = urlencode([(name, text) for name, text in request.query_params.multi_items() if name[:5] != "_HLS_"])
    text = _playlist(session).text(query)
    return Response(text, media_type="application/vnd.apple.mpegurl", headers={"Cache-Control": "no-cache"})


@router.get("/init.mp4", response_class=Response, responses=VIDEO)
async def show_init(session: Watched, access: TheAccess) -> Response:
    """What sets the player up."""
    if session.window.init is None:
        raise _unknown()
    return _media(session.window.init, access)


@router.get("/{number}.{index}.m4s", response_class=Response, responses=VIDEO)
async def show_part(session: Watched, service: TheService, access: TheAccess, number: Number, index: Index) -> Response:
    """One part, while it is held; it waits for the one that is made now."""
    if _playlist(session).next_part == (number, index):
        await _until(session, lambda: _playlist(session).has(number, index), service.settings.hls_wait)
    for segment in _playlist(session).segments:
        if segment.number == number and index < len(segment.parts):
            return _media(segment.parts[index].data, access)
    raise _unknown()


@router.get("/{number}.m4s", response_class=Response, responses=VIDEO)
async def show_segment(session: Watched, access: TheAccess, number: Number) -> Response:
    """One segment, while it is held."""
    for segment in _playlist(session).segments:
        if segment.number == number and segment.whole:
            return _media(segment.data, access)
    raise _unknown()


async def _until(session: LiveSession, there: Callable[[], bool], seconds: float) -> None:
    """Wait until `there()`, or until the stream is over; raises ServiceError after so many `seconds`."""

    async def look() -> None:
        while not session.window.ended and not there():
            await session.window.changed()

    try:
        await asyncio.wait_for(look(), seconds)
    except asyncio.TimeoutError:
        raise ServiceError(503, "not_yet", f"it was not there within {seconds:g} s", RETRY_SOON) from None


def _playlist(session: LiveSession) -> Playlist:
    over = session.window.ended  # before the look: then what was made up to the end is seen
    return Playlist(cut(session.window.held(), session.fps, over), session.fps, over)


def _media(data: bytes, access: Access) -> Response:
    cache = f"{'public' if access.tokens is None else 'private'}, max-age=60, immutable"
    return Response(data, media_type="video/mp4", headers={"Cache-Control": cache})


def _unknown() -> ServiceError:
    return ServiceError(404, "unknown_segment", "that segment is no longer held, or not there yet")
