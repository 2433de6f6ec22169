"""``/v1/sessions`` of a fleet: to begin sessions, and what is passed on to the devices that run them."""

import asyncio
import tempfile
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from musetalk_runtime.fleet.device_client import JSON, Answer, DeviceLost
from musetalk_runtime.fleet.front.dependencies import TheFront, TheKey, TheOwner
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.fleet.session_id import SessionId
from musetalk_runtime.service.api import schema
from musetalk_runtime.service.api.dependencies import ERRORS
from musetalk_runtime.service.api.uploads import CLIP_BODY, read_chunks, spend_of
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.service.security.tokens import Token

SPOOLED_BYTES = 1 << 20  # of a clip in memory: the rest of it is in a file
MAX_CLIPS = 8  # at once
MEDIA = {"stream.mp4": "stream", "events": "events", "hls/stream.m3u8": "hls"}  # paths, by the addresses they have

GONE: dict[int | str, dict[str, Any]] = {
    410: {"model": schema.ErrorAnswer, "description": "The session's device is gone: begin another session"}
}


class FleetSessionAnswer(schema.SessionAnswer):
    """A session of a fleet. Its addresses lead to its device. What is not an address, as the end of a session, is asked
    for at the front end.
    """

    device: str


class FleetFileSessionAnswer(FleetSessionAnswer, schema.FileSessionAnswer):
    """A session of a fleet that was begun with a file."""


router = APIRouter(prefix="/v1/sessions", tags=["sessions"], responses={**ERRORS, **GONE})
clips = asyncio.Semaphore(MAX_CLIPS)


@router.post("", status_code=201, response_model=FleetSessionAnswer)
async def begin_session(wanted: schema.LiveSession, front: TheFront, owner: TheOwner) -> Response:
    """Begin a session on the device with the most room among those that have the avatar and the bundle."""
    body = wanted.model_dump_json(exclude_unset=True).encode()
    begun = await front.begin("/v1/sessions", wanted.avatar, wanted.bundle, owner, lambda: body, JSON)
    return JSONResponse(begun, 201)


@router.post("/audio", status_code=201, response_model=FleetFileSessionAnswer, openapi_extra=CLIP_BODY)
async def begin_session_of_a_file(
    wanted: Annotated[schema.FileSession, Query()], front: TheFront, owner: TheOwner, request: Request
) -> Response:
    """Begin a session that says the body, any audio file of at most 32 MiB and 300 s, and then ends."""
    if clips.locked():
        raise ServiceError(503, "too_many_uploads", f"{MAX_CLIPS} uploads are under way", RETRY_SOON)
    async with clips:
        with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as clip:
            await _spool(request, front, owner, clip)  # type: ignore[arg-type]

            def rewound() -> bytes:
                clip.seek(0)
                return clip.read()

            path = f"/v1/sessions/audio?{request.url.query}"
            return JSONResponse(await front.begin(path, wanted.avatar, wanted.bundle, owner, rewound, {}), 201)


@router.get("", response_model=list[FleetSessionAnswer])
async def list_sessions(front: TheFront, owner: TheOwner) -> Response:
    """The sessions on all devices that run and were begun with the same token."""
    if owner is None:
        raise ServiceError(403, "no_token", "sessions are listed for a token's holder: start it with --tokens")
    devices = [front.monitor.devices[name] for name in front.rooms.up if name in front.monitor.devices]
    answers = await asyncio.gather(
        *(front.client.ask(device, "GET", "/v1/sessions", owner) for device in devices), return_exceptions=True
    )
    found = [
        front.session(device, session)
        for device, answer in zip(devices, answers, strict=True)
        if isinstance(answer, Answer) and answer.status == 200
        for session in answer.json()
    ]
    return JSONResponse(found)


@router.get("/{id}", response_model=FleetSessionAnswer)
async def show_session(key: TheKey, front: TheFront, owner: TheOwner) -> Response:
    """How a session is, with addresses that are signed anew."""
    return JSONResponse(await _session(front, key, owner))


@router.delete("/{id}", status_code=204, response_class=Response)
async def end_session(key: TheKey, front: TheFront, owner: TheOwner) -> Response:
    """End a session."""
    return _passed(await front.ask(key, "DELETE", "", owner))


@router.post("/{id}/audio", status_code=202, response_model=schema.ClipAnswer, openapi_extra=CLIP_BODY)
async def say_file(key: TheKey, front: TheFront, owner: TheOwner, request: Request) -> Response:
    """Say the body, any audio file, after what waits already."""
    chunks = read_chunks(request, front.settings, spend_of(owner))
    return _passed(await front.ask(key, "POST", "/audio", owner, chunks))


@router.post("/{id}/text", status_code=202, response_model=schema.TextAnswer)
async def say_text(key: TheKey, front: TheFront, owner: TheOwner, wanted: schema.Text) -> Response:
    """Say a text, after what waits already."""
    return _passed(await front.ask(key, "POST", "/text", owner, wanted.model_dump_json().encode(), JSON))


@router.post("/{id}/pose", status_code=202, response_model=schema.PoseAnswer)
async def change_pose(key: TheKey, front: TheFront, owner: TheOwner, wanted: schema.Pose) -> Response:
    """Go over to another pose of the avatar."""
    return _passed(await front.ask(key, "POST", "/pose", owner, wanted.model_dump_json().encode(), JSON))


@router.post("/{id}/interrupt", response_model=schema.CutAnswer)
async def interrupt(key: TheKey, front: TheFront, owner: TheOwner) -> Response:
    """Stop the mouth and drop what is queued."""
    return _passed(await front.ask(key, "POST", "/interrupt", owner))


@router.get("/{id}/{path:path}", status_code=307, response_class=Response)
async def watch(path: str, key: TheKey, front: TheFront, owner: TheOwner, request: Request) -> Response:
    """Lead a viewer to its device: ``stream.mp4``, ``events`` and ``hls/stream.m3u8``. Media never pass the front end.

    Programs that send a token elsewhere than it was meant for are safer with the addresses in the session's JSON.
    """
    if path not in MEDIA:
        raise ServiceError(404, "http_error", "Not Found")
    address = str((await _session(front, key, owner))[MEDIA[path]])
    query = request.url.query
    return RedirectResponse(f"{address}{'&' if '?' in address else '?'}{query}" if query else address, 307)


async def _session(front: Front, key: SessionId, owner: Token | None) -> dict[str, Any]:
    answer = await front.ask(key, "GET", "", owner)
    if answer.status != 200:
        raise answer.error()
    try:
        return front.session(front.device_of(key), answer.json())
    except DeviceLost as error:
        raise ServiceError(502, "device_error", str(error)) from None


def _passed(answer: Answer) -> Response:
    if answer.status >= 400:
        raise answer.error()
    return Response(answer.body, answer.status, answer.headers)


async def _spool(request: Request, front: Front, owner: Token | None, clip: BinaryIO) -> None:
    size = 0
    async for chunk in read_chunks(request, front.settings, spend_of(owner)):
        size += len(chunk)
        if size > front.settings.clip_bytes:
            raise ServiceError(413, "too_large", f"a clip has at most {front.settings.clip_bytes >> 20} MiB")
        clip.write(chunk)
