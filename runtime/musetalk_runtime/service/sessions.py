"""``/v1/sessions``."""

from fastapi import APIRouter, Request, Response

from musetalk_runtime.service.access import Access, token_of
from musetalk_runtime.service.broadcast import Broadcast
from musetalk_runtime.service.context import ERRORS, TheAccess, TheRunningSession, TheService, TheSession
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.push import Push
from musetalk_runtime.service.schema import CutAnswer, SessionAnswer, SessionRequest
from musetalk_runtime.service.service import RETRY
from musetalk_runtime.service.targets import target_url

router = APIRouter(prefix="/v1", tags=["sessions"], responses=ERRORS)


@router.post("/sessions", status_code=201)
async def begin_session(
    wanted: SessionRequest, service: TheService, access: TheAccess, request: Request
) -> SessionAnswer:
    """Begin a session. The avatar idles until it is given something to say, and is generated once, whoever watches."""
    owner = token_of(request)
    if owner and owner.sessions is not None and service.owned_by(owner) >= owner.sessions:
        raise ServiceError(429, "too_many_sessions", f"this token has {owner.sessions} at once at most", RETRY)
    url = target_url(service.settings.targets, wanted.push) if wanted.push else None
    session = service.open(wanted.avatar, str(wanted.fps), wanted.lead, wanted.bundle)
    session.owner = owner
    if wanted.push and url:
        session.push = Push(session, wanted.push, url)
    return _answer(session, access)


@router.get("/sessions")
async def list_sessions(service: TheService, access: TheAccess, request: Request) -> list[SessionAnswer]:
    """The sessions that run and were begun with the same token. Without tokens a session is for who knows its id."""
    owner = token_of(request)
    if owner is None:
        raise ServiceError(403, "no_token", "sessions are listed for a token's holder: start it with --tokens")
    return [_answer(session, access) for session in service.running if session.owner is owner]


@router.get("/sessions/{id}")
async def show_session(session: TheSession, access: TheAccess) -> SessionAnswer:
    """How a session is."""
    return _answer(session, access)


@router.delete("/sessions/{id}", status_code=204, response_class=Response)
async def end_session(session: TheSession, service: TheService) -> None:
    """End a session. Its viewers get a whole file of what was made so far."""
    service.close(session.id)


@router.post("/sessions/{id}/interrupt")
async def interrupt(session: TheRunningSession) -> CutAnswer:
    """Stop the mouth and drop what is queued. The avatar idles on, and can be given something else to say at once."""
    return CutAnswer(at=round(session.hush(), 3))


def _answer(session: Broadcast, access: Access) -> SessionAnswer:
    path = f"/v1/sessions/{session.id}"
    figures = session.figures()
    return SessionAnswer(
        id=session.id,
        avatar=session.cast.avatar,
        bundle=session.cast.bundle,
        fps=float(session.fps),
        state=session.state,
        error=session.error,
        generated=figures["generated"],
        queued=figures["queued"],
        viewers=session.viewers,
        push=session.push.state if session.push else None,
        stream=access.link(f"{path}/stream.mp4"),
        hls=access.link(f"{path}/hls/stream.m3u8"),
        events=access.link(f"{path}/events"),
        audio=access.link(f"{path}/audio"),
    )
