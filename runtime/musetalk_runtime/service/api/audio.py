"""``/v1/sessions/{id}/audio``: the speech of a session, as a clip or over a WebSocket."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, WebSocket, WebSocketDisconnect
from starlette.responses import JSONResponse

from musetalk_runtime.audio.decode.opus import OpusDecoder
from musetalk_runtime.audio.decode.pcm import PcmDecoder
from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.service.api.dependencies import ERRORS, TheRunningSession, TheService, session_of
from musetalk_runtime.service.api.schema import ClipAnswer
from musetalk_runtime.service.api.uploads import CLIP_BODY, LIMIT_SPENT, read_clip, spend_of
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.service.session.live_session import LiveSession

SOCKET_QUEUE_S = 10.0  # seconds of speech from a socket that may wait
RECEIVE_TIMEOUT_S = 1.0  # seconds between looks whether the session has ended
ROOM_INTERVAL_S = 0.05  # seconds between looks whether there is room again
NOT_AUDIO, REFUSED, TOO_FAST, SESSION_ENDED = 1003, 1008, 1013, 1001  # close codes of the WebSocket

router = APIRouter(prefix="/v1/sessions/{id}", tags=["speaking"], responses=ERRORS)


@router.post("/audio", status_code=202, openapi_extra=CLIP_BODY)
async def say(request: Request, session: TheRunningSession, service: TheService) -> ClipAnswer:
    """Say a clip after what is queued: any audio file, at most 32 MiB and 300 s.

    The same path takes a WebSocket, for speech as it is spoken: binary messages of PCM, signed 16-bit little-endian,
    mono, 16 kHz or `?rate=` 8000 to 48000, each of whole samples. More than 10 s ahead of playback it is read no
    further, or, with `?full=end`, closed (1013). With `?codec=opus` each message is one Opus packet, with `?codec=ogg`
    any part of an Ogg Opus stream. What is none of that closes it (1003), and so does a second socket for one session
    (1008). With `?positions=true` each message is answered by JSON: its `begin` and `end` in the stream, in seconds.
    """
    with service.upload("clip"):
        clip = await read_clip(request, service, spend_of(session.owner))
    place = session.say(clip.speech)
    if not place:
        raise ServiceError(429, "queue_full", f"{session.speech.queued:.0f} s of speech wait already", RETRY_SOON)
    for warning in clip.warnings:
        session.events.publish("warning", message=f"clip: {warning}")
    seconds, before = clip.speech.seconds, place.before
    return ClipAnswer(seconds=seconds, before=before, queued=before + seconds, warnings=clip.warnings)


@router.websocket("/audio")
async def listen(
    socket: WebSocket,
    full: Literal["wait", "end"] = "wait",
    codec: Literal["pcm", "opus", "ogg"] = "pcm",
    rate: Annotated[int, Query(ge=8_000, le=48_000)] = SAMPLE_RATE,
    positions: bool = False,
) -> None:
    """Say speech as it comes."""
    try:
        session = session_of(socket, str(socket.path_params["id"]))
    except ServiceError as error:
        await socket.send_denial_response(JSONResponse(error.to_json(), error.status, error.headers))
        return
    if not session.claim_audio_socket():
        await socket.accept()
        await socket.close(REFUSED, "another socket speaks")
        return
    try:
        await socket.accept()
        decode = PcmDecoder(rate) if codec == "pcm" else OpusDecoder(codec)
        await socket.close(*await _receive_speech(socket, session, decode, full == "end", positions))
    except WebSocketDisconnect:
        pass
    finally:
        session.release_audio_socket()


async def _receive_speech(
    socket: WebSocket,
    session: LiveSession,
    decode: Callable[[bytes], SpeechPiece],
    close_when_full: bool,
    tell_positions: bool,
) -> tuple[int, str]:
    """Push what the socket sends; the code and reason to close it with."""
    spend = spend_of(session.owner)
    while session.running:
        try:
            message = await asyncio.wait_for(socket.receive(), RECEIVE_TIMEOUT_S)
        except asyncio.TimeoutError:
            continue
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        data = message.get("bytes") or b""
        try:
            if not data:
                raise InvalidMedia("expected binary messages")
            piece = await asyncio.to_thread(decode, data)
        except InvalidMedia as error:
            session.events.publish("warning", message=f"audio socket: {error}")
            return NOT_AUDIO, str(error)
        if not spend(len(data)):
            session.events.publish("warning", message=f"audio socket: {LIMIT_SPENT}")
            return REFUSED, LIMIT_SPENT
        place = None
        while session.running and not (place := session.say(piece, SOCKET_QUEUE_S)):
            if close_when_full:
                return TOO_FAST, "faster than playback"
            await asyncio.sleep(ROOM_INTERVAL_S)
        if tell_positions and place:
            end = place.begin + piece.seconds
            await socket.send_json({"begin": round(place.begin, 4), "end": round(end, 4)})
    return SESSION_ENDED, "the session has ended"
