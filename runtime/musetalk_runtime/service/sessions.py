"""``/v1/sessions``."""

from fastapi import APIRouter, Request, Response

from musetalk_runtime.service.broadcast import Broadcast
from musetalk_runtime.service.context import ERRORS, TheRunningSession, TheService, TheSession
from musetalk_runtime.service.schema import CutAnswer, SessionAnswer, SessionRequest

router = APIRouter(prefix="/v1", tags=["sessions"], responses=ERRORS)


@router.post("/sessions", status_code=201)
async def begin_session(wanted: SessionRequest, service: TheService, request: Request) -> SessionAnswer:
    """Begin a session. The avatar idles until it is given something to say, and is generated once, whoever watches."""
    return _answer(service.open(wanted.avatar, str(wanted.fps), wanted.lead), request)


@router.get("/sessions/{id}")
async def show_session(session: TheSession, request: Request) -> SessionAnswer:
    """How a session is."""
    return _answer(session, request)


@router.delete("/sessions/{id}", status_code=204, response_class=Response)
async def end_session(session: TheSession, service: TheService) -> None:
    """End a session. Its viewers get a whole file of what was made so far."""
    service.close(session.id)


@router.post("/sessions/{id}/interrupt")
async def interrupt(session: TheRunningSession) -> CutAnswer:
    """Stop the mouth and drop what is queued. The avatar idles on, and can be given something else to say at once."""
    return CutAnswer(at=round(session.hush(), 3))


def _answer(session: Broadcast, request: Request) -> SessionAnswer:
    root = f"{request.scope.get('root_path', '')}/v1/sessions/{session.id}"
    figures = session.figures()
    return SessionAnswer(
        id=session.id,
        avatar=session.avatar,
        fps=float(session.fps),
        state=session.state,
        error=session.error,
        generated=figures["generated"],
        queued=figures["queued"],
        viewers=session.viewers,
        stream=f"{root}/stream.mp4",
        events=f"{root}/events",
        audio=f"{root}/audio",
    )
