"""``/v1/sessions/{id}/audio``: what a session is to say."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Request, WebSocket, WebSocketDisconnect
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from musetalk_runtime.audio.opus import OpusDecoder
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.api.dependencies import ERRORS, TheRunningSession, TheService, session_of
from musetalk_runtime.service.api.schema import ClipAnswer
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.service import RETRY, Service
from musetalk_runtime.service.session.clip import LARGEST, LONGEST, decode_clip
from musetalk_runtime.service.session.live_session import Broadcast

UPLOAD = 60.0  # seconds an upload may take
SOCKET_QUEUE = 10.0  # seconds of speech from a socket that wait, at most
PATIENCE = 1.0  # seconds between looks whether the session has ended
LOOK = 0.05  # seconds between looks whether there is room again
CLIP: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}
}
SPENT = "this token has sent all that it may in an hour"
NOT_AUDIO, REFUSED, TOO_FAST, GONE = 1003, 1008, 1013, 1001  # close codes

router = APIRouter(prefix="/v1/sessions/{id}", tags=["speaking"], responses=ERRORS)


@router.post("/audio", status_code=202, openapi_extra=CLIP)
async def say(request: Request, session: TheRunningSession, service: TheService) -> ClipAnswer:
    """Say a clip after what is queued: any audio file, at most 32 MiB and 300 s.

    The same path takes a WebSocket, for speech as it is spoken: binary messages of PCM, signed 16-bit little-endian,
    mono, 16 kHz, each of whole samples. More than 10 s ahead of playback it is read no further, or, with `?full=end`,
    closed (1013). With `?codec=opus` each message is one Opus packet, with `?codec=ogg` any part of an Ogg Opus stream.
    What is none of that closes it (1003), and so does a second socket for one session (1008).
    """
    with service.upload("clip"):
        pcm = await read_clip(request, service, session.spend)
    if not session.feeder.push(pcm):
        raise ServiceError(429, "queue_full", f"{session.feeder.queued:.0f} s of speech wait already", RETRY)
    return ClipAnswer(seconds=len(pcm) / 32_000, queued=session.feeder.queued)


@router.websocket("/audio")
async def listen(
    socket: WebSocket, full: Literal["wait", "end"] = "wait", codec: Literal["pcm", "opus", "ogg"] = "pcm"
) -> None:
    """Say what is spoken, as it comes."""
    try:
        session = session_of(socket, str(socket.path_params["id"]))
    except ServiceError as error:
        refusal = {"error": {"code": error.code, "message": str(error)}}
        await socket.send_denial_response(JSONResponse(refusal, error.status))
        return
    await socket.accept()
    if session.spoken_to:
        await socket.close(REFUSED, "another socket speaks")
        return
    session.spoken_to = True
    try:
        await socket.close(*await _hear(socket, session, _pcm if codec == "pcm" else OpusDecoder(codec), full == "end"))
    except WebSocketDisconnect:
        pass
    finally:
        session.spoken_to = False


async def _hear(
    socket: WebSocket, session: Broadcast, decode: Callable[[bytes], bytes], impatient: bool
) -> tuple[int, str]:
    """Push what the socket says; the code and reason to close it with."""
    while session.running:
        try:
            message = await asyncio.wait_for(socket.receive(), PATIENCE)
        except asyncio.TimeoutError:
            continue
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        data = message.get("bytes") or b""
        try:
            if not data:
                raise InvalidMedia("expected binary messages")
            pcm = await asyncio.to_thread(decode, data)
        except InvalidMedia as error:
            session.notices.post("warning", message=f"audio socket: {error}")
            return NOT_AUDIO, str(error)
        if not session.spend(len(data)):
            session.notices.post("warning", message=f"audio socket: {SPENT}")
            return REFUSED, SPENT
        while pcm and session.running and not session.feeder.push(pcm, SOCKET_QUEUE):
            if impatient:
                return TOO_FAST, "faster than playback"
            await asyncio.sleep(LOOK)
    return GONE, "the session has ended"


def _pcm(data: bytes) -> bytes:
    """A message of PCM, as it is; raises InvalidMedia."""
    if len(data) % 2:
        raise InvalidMedia("expected messages of whole samples: s16le, mono, 16 kHz")
    return data


async def read_clip(request: Request, service: Service, spend: Callable[[int], bool]) -> bytes:
    """The PCM of a request's body, whose sender is charged by `spend`; raises ServiceError or InvalidMedia."""
    try:
        body = await asyncio.wait_for(_read(request, spend), UPLOAD)
    except asyncio.TimeoutError:
        raise ServiceError(408, "too_slow", f"the upload took more than {UPLOAD:g} s") from None
    except ClientDisconnect:
        raise ServiceError(400, "incomplete", "the upload ended before its end") from None
    return await asyncio.get_running_loop().run_in_executor(service.workers, decode_clip, body)


async def _read(request: Request, spend: Callable[[int], bool]) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if not spend(len(chunk)):
            raise ServiceError(429, "upload_limit", SPENT, {"Retry-After": "60"})
        if len(body) > LARGEST:
            raise ServiceError(413, "too_large", f"a clip has at most {LARGEST} bytes and {LONGEST:g} s")
    return bytes(body)
