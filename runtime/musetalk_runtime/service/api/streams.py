"""``/v1/sessions/{id}/stream.mp4`` and ``events``: a session's stream and events for its viewers."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from musetalk_runtime.service.api.dependencies import ERRORS, TheService, TheSession
from musetalk_runtime.service.api.streaming_body import StreamingBody
from musetalk_runtime.service.delivery.reader import Reader, Slow
from musetalk_runtime.service.errors import RETRY_SOON, FellBehind, ServiceError
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.live_session import LiveSession

T = TypeVar("T")

RANGE = re.compile(r"bytes=(\d{1,15})-")
UNKNOWN_END = (1 << 53) - 1  # the last byte of what is still being made, as RFC 8673 has it
FIRST_FRAME_TIMEOUT_S = 20.0  # seconds a viewer waits for the first frame

STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}, "description": "The stream from its newest keyframe on, or from `from`"},
    206: {"content": {"video/mp4": {}}, "description": "The stream from a byte on"},
    416: {"description": "That part is no longer held, or not there yet: join again"},
}

router = APIRouter(prefix="/v1/sessions/{id}", tags=["viewing"], responses=ERRORS)


@router.get("/stream.mp4", response_class=Response, responses=STREAM)
async def watch(
    session: TheSession,
    service: TheService,
    number: Annotated[int | None, Query(alias="from", ge=1, lt=1 << 31)] = None,
    slow: Slow = Slow.SKIP,
    live: bool = False,
    wanted: Annotated[str | None, Header(alias="Range", max_length=64)] = None,
) -> Response:
    """Watch, as fragmented MP4 that lasts as long as the session.

    Without more, from the newest keyframe: first `Stream-Init` bytes that set the player up, then the stream from its
    byte `Stream-Offset` on. Who was cut off goes on, without a gap, with `Range: bytes=N-`, N counted in the stream, or
    with `?from=`, the number of a fragment (`mfhd` in its `moof`). With `?live=true` nothing is made ahead for this
    viewer, as for one by WebRTC: it has to play what comes as it comes.
    """
    service.sessions.check_viewers()
    session.audience.add(live)
    try:
        reader = Reader(session.window, slow)
        status = await _place(reader, session, number, wanted)
    except BaseException:
        session.audience.remove(live)
        raise
    service.metrics.add("viewers_total")
    headers = _headers(reader, session, status)
    return StreamingBody(_chunks(reader, service), "video/mp4", partial(session.audience.remove, live), status, headers)


@router.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def events(session: TheSession) -> Response:
    """What happens, as server-sent events.

    `state` {state, at, error}, first at once; `buffer` {generated, ahead, queued, viewers} each second; `interrupted`
    {at}; `turn` {what, at, seconds}, a turn's latency once its frame is out: of `speech`, from its first sample to the
    frame that shows it; of an `interruption`, to a closed mouth; `pose` {pose, at}, which fades in there; `rate` {fps},
    when fewer frames are made since the machine is too slow, or more again; `push` {to, state, message}; `warning`
    {message}. Times are seconds of the stream.
    """
    return StreamingBody(session.events.subscribe(session.snapshot()), "text/event-stream", lambda: None)


async def _place(reader: Reader, session: LiveSession, number: int | None, wanted: str | None) -> int:
    """Put the reader where the request wants it; the status to answer with."""
    ranged = RANGE.fullmatch(wanted or "")
    if number is not None:
        await _in_time(reader.seek(number))
    elif ranged and int(ranged[1]):
        await reader.seek_byte(int(ranged[1]))
        return 206
    elif not await _in_time(reader.join()):
        raise ServiceError(410, "ended", session.error or "the session has ended before its first frame")
    return 200


async def _in_time(placing: Coroutine[Any, Any, T]) -> T:
    try:
        return await asyncio.wait_for(placing, FIRST_FRAME_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ServiceError(503, "starting", f"no frame within {FIRST_FRAME_TIMEOUT_S:g} s", RETRY_SOON) from None


def _headers(reader: Reader, session: LiveSession, status: int) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes",
        "Stream-Init": str(len(session.window.init or b"")),
        "Stream-Offset": str(reader.offset),
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {reader.offset}-{UNKNOWN_END}/*"
    return headers


async def _chunks(reader: Reader, service: Service) -> AsyncIterator[bytes]:
    skipped = 0
    try:
        while (data := await reader.read()) is not None:
            if reader.skipped > skipped:
                service.metrics.add("skips_total")
                skipped = reader.skipped
            yield data
    except FellBehind:
        service.metrics.add("dropped_viewers_total")
        raise
