"""``/v1/sessions``: to begin, show, interrupt and end sessions."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from musetalk_runtime.audio.speech_piece import SpeechPiece, silence
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.service.api import schema
from musetalk_runtime.service.api.dependencies import ERRORS, TheAccess, TheRunningSession, TheService, TheSession
from musetalk_runtime.service.api.uploads import CLIP_BODY, read_clip, spend_of
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.service.security.access import Access, token_of
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.lead import idle_lead
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.session.push_targets import PushTarget
from musetalk_runtime.service.webrtc.extra import has_webrtc
from musetalk_runtime.service.webrtc.ice_server import IceServer

router = APIRouter(prefix="/v1", tags=["sessions"], responses=ERRORS)


@router.post("/sessions", status_code=201)
async def begin_session(
    wanted: schema.LiveSession, service: TheService, access: TheAccess, request: Request
) -> schema.SessionAnswer:
    """Begin a session. The avatar idles until it is given something to say, and is generated once, whoever watches."""
    return _answer(_begin(wanted, service, token_of(request)), service, access)


@router.post("/sessions/audio", status_code=201, openapi_extra=CLIP_BODY)
async def begin_session_of_a_file(
    wanted: Annotated[schema.FileSession, Query()], service: TheService, access: TheAccess, request: Request
) -> schema.FileSessionAnswer:
    """Begin a session that says the body, any audio file of at most 32 MiB and 300 s, and then ends.

    Its stream is as long as the speech, and is generated ahead of playback by the lead, as any other. With
    `then=listen` it begins with some half a second of silence, does not end, and can be spoken to. A file that is no
    speech begins nothing.
    """
    owner = token_of(request)
    _check(wanted, service, owner)
    with service.upload("clip"):
        clip = await read_clip(request, service, spend_of(owner))
    before = 0.0
    if wanted.then == "end":
        session = _begin(wanted, service, owner, clip.speech)
    else:
        session = _begin(wanted, service, owner)
        session.speech.push(silence(int(idle_lead(session.fps) * SAMPLE_RATE)))  # its frames are soon made
        if place := session.say(clip.speech):
            before = place.before
    session.speech.warnings += clip.warnings
    answer = dict(_answer(session, service, access))
    return schema.FileSessionAnswer(**answer, seconds=clip.speech.seconds, before=before)


@router.get("/sessions")
async def list_sessions(service: TheService, access: TheAccess, request: Request) -> list[schema.SessionAnswer]:
    """The sessions that run and were begun with the same token. Without tokens a session is for who knows its id."""
    owner = token_of(request)
    if owner is None:
        raise ServiceError(403, "no_token", "sessions are listed for a token's holder: start it with --tokens")
    return [_answer(session, service, access) for session in service.sessions.running if session.owner is owner]


@router.get("/sessions/{id}")
async def show_session(session: TheSession, service: TheService, access: TheAccess) -> schema.SessionAnswer:
    """How a session is."""
    return _answer(session, service, access)


@router.delete("/sessions/{id}", status_code=204, response_class=Response)
async def end_session(session: TheSession) -> None:
    """End a session. Its viewers get a whole file of what was made so far."""
    session.stop()


@router.post("/sessions/{id}/interrupt")
async def interrupt(session: TheRunningSession) -> schema.CutAnswer:
    """Stop the mouth and drop what is queued. The avatar idles on, and can be given something else to say at once."""
    return schema.CutAnswer(at=round(session.silence(), 3))


@router.post("/sessions/{id}/pose", status_code=202)
async def change_pose(wanted: schema.Pose, session: TheRunningSession) -> schema.PoseAnswer:
    """Go over to another pose of the avatar, at the next frames at which the two are alike, with a crossfade.

    It shows after what is generated ahead already, the session's lead, and half a second at most. Lips go on in step.
    """
    if wanted.name not in session.poses.names:
        raise ServiceError(404, "unknown_pose", f"no pose {wanted.name!r}: expected one of {session.poses.names}")
    session.poses.ask(wanted.name, wanted.repeat)
    return schema.PoseAnswer(pose=session.poses.pose)


def _check(wanted: schema.SessionSettings, service: Service, owner: Token | None) -> PushTarget | None:
    """Raise ServiceError for a session that cannot be begun; gives the target to push to."""
    if owner and owner.sessions is not None and service.sessions.owned_by(owner) >= owner.sessions:
        service.sessions.want_place(owner)
        raise ServiceError(429, "too_many_sessions", f"this token has {owner.sessions} at once at most", RETRY_SOON)
    service.catalog.find(wanted.avatar, wanted.bundle)
    return service.settings.target(wanted.push) if wanted.push else None


def _begin(
    wanted: schema.SessionSettings, service: Service, owner: Token | None, speech: SpeechPiece | None = None
) -> LiveSession:
    target = _check(wanted, service, owner)
    return service.open(wanted.avatar, str(wanted.fps), wanted.lead, wanted.bundle, speech, owner, target)


def _answer(session: LiveSession, service: Service, access: Access) -> schema.SessionAnswer:
    path = f"/v1/sessions/{session.id}"
    figures = session.figures()
    return schema.SessionAnswer(
        id=session.id,
        avatar=session.pairing.avatar,
        bundle=session.pairing.bundle,
        fps=float(session.fps * session.pace.share),
        state=session.state,
        error=session.error,
        generated=figures["generated"],
        queued=figures["queued"],
        viewers=session.audience.viewers,
        pose=session.poses.pose,
        poses=session.poses.names,
        push=session.push.state if session.push else None,
        warnings=tuple(session.speech.warnings),
        stream=access.link(f"{path}/stream.mp4"),
        whep=access.link(f"{path}/whep") if has_webrtc() else None,
        ice_servers=tuple(_ice_server(server) for server in service.settings.ice_servers) if has_webrtc() else (),
        hls=access.link(f"{path}/hls/stream.m3u8"),
        events=access.link(f"{path}/events"),
        audio=access.link(f"{path}/audio"),
    )


def _ice_server(server: IceServer) -> schema.IceServerAnswer:
    return schema.IceServerAnswer(
        urls=server.url, username=server.username or None, credential=server.credential or None
    )
