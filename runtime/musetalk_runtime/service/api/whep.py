"""``/v1/sessions/{id}/whep``: a session by WebRTC, for players and pages that want it as it is made."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from musetalk_runtime.service.api.dependencies import ERRORS, TheAccess, TheRunningSession, TheService, TheSession
from musetalk_runtime.service.api.uploads import spend_of
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.webrtc.extra import has_webrtc

SDP = "application/sdp"
ACCEPT = {"Accept-Post": SDP}
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
    """Watch by WebRTC, as WHEP (draft-ietf-wish-whep) has it: an SDP offer to receive H.264 and Opus is answered.

    What the viewer sends on its audio track, Opus from a microphone, is said by the session: one voice at a time. All
    addresses of this service are in the answer. Nothing trickles and ICE is not restarted, so `PATCH` is 405: a viewer
    whose network changes posts a new offer.
    """
    _require_webrtc()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != SDP:
        raise ServiceError(415, "no_sdp", f"send an offer as {SDP}", ACCEPT)
    from musetalk_runtime.service.webrtc.peer import Peer

    offer = (await request.body()).decode("utf-8", "replace")
    service.sessions.check_peers()
    peer = Peer(session, spend_of(session.owner), service.settings.ice_servers)
    answer = await peer.answer(offer)
    service.metrics.add("viewers_total")
    response = Response(answer, 201, {"Location": access.link(f"/v1/sessions/{session.id}/whep/{peer.id}")}, SDP)
    _add_links(response, service)
    return response


@router.options("", status_code=204, response_class=Response)
async def tell_ice_servers(_: TheSession, service: TheService) -> Response:
    """What may be posted, and as `Link` headers the STUN and TURN servers to use."""
    response = Response(status_code=204, headers={**ACCEPT, "Allow": "OPTIONS, POST"})
    _add_links(response, service)
    return response


@router.delete("/{peer}", status_code=204, response_class=Response)
async def end_webrtc(session: TheSession, peer: Annotated[str, Path(max_length=64)]) -> None:
    """End a WebRTC connection."""
    close = session.audience.peers.get(peer)
    if close is None:
        raise ServiceError(404, "unknown_connection", "no such connection: it has ended")
    await close()


def _require_webrtc() -> None:
    if not has_webrtc():
        raise ServiceError(501, "no_webrtc", "WebRTC needs aiortc: pip install 'musetalk-edge[webrtc]'")


def _add_links(response: Response, service: Service) -> None:
    for server in service.settings.ice_servers:
        response.headers.append("Link", server.link)
