"""``/v1/sessions/{id}/whep``: a session by WebRTC, for players and pages that want it as it is made."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from musetalk_runtime.service.api.dependencies import ERRORS, TheAccess, TheRunningSession, TheService, TheSession
from musetalk_runtime.service.errors import ServiceError

SDP = "application/sdp"
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {SDP: {"schema": {"type": "string"}}}}}
ANSWER: dict[int | str, dict[str, Any]] = {
    201: {"content": {SDP: {}}, "description": "The answer; `Location` is to be deleted in the end"},
    415: {"description": "The body is no SDP"},
    501: {"description": "This service was installed without the extra `webrtc`"},
}

router = APIRouter(prefix="/v1/sessions/{id}/whep", tags=["viewing"], responses=ERRORS)


@router.post("", status_code=201, response_class=Response, responses=ANSWER, openapi_extra=BODY)
async def watch_by_webrtc(
    session: TheRunningSession, service: TheService, access: TheAccess, request: Request
) -> Response:
    """Watch by WebRTC, as WHEP has it: an SDP offer to receive H.264 and Opus is answered. All addresses of this
    service are in the answer: nothing trickles.
    """
    try:
        from musetalk_runtime.service.webrtc.peer import Peer
    except ModuleNotFoundError as error:
        raise ServiceError(
            501, "no_webrtc", f"WebRTC needs {error.name}: pip install 'musetalk-edge[webrtc]'"
        ) from None
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != SDP:
        raise ServiceError(415, "no_sdp", f"send an offer as {SDP}")
    service.check_viewers()
    offer = (await request.body()).decode("utf-8", "replace")
    peer = Peer(session.packets, session.clock, session.force_keyframe, lambda: session.remove_peer(peer.id))
    session.add_peer(peer.id, peer.close)
    answer = await peer.answer(offer)
    service.metrics.add("viewers_total")
    location = access.link(f"/v1/sessions/{session.id}/whep/{peer.id}")
    return Response(answer, 201, {"Location": location}, SDP)


@router.delete("/{peer}", status_code=204, response_class=Response)
async def end_webrtc(session: TheSession, peer: Annotated[str, Path(max_length=64)]) -> None:
    """End a WebRTC connection."""
    close = session.peers.get(peer)
    if close is None:
        raise ServiceError(404, "unknown_connection", "no such connection: it has ended")
    await close()
