"""``/v1/avatars``: to make, show and delete avatars."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.core.names import NAME
from musetalk_runtime.frame import Frame
from musetalk_runtime.service.api.dependencies import ERRORS, TheAccess, TheService
from musetalk_runtime.service.api.in_loop import in_loop
from musetalk_runtime.service.api.schema import AvatarAnswer, AvatarProgress, ErrorAnswer
from musetalk_runtime.service.api.streaming_body import StreamingBody
from musetalk_runtime.service.api.uploads import read_chunks, spend_of
from musetalk_runtime.service.avatars.store import AvatarStore
from musetalk_runtime.service.delivery.event_stream import ServerSentEvent
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import Access, token_of
from musetalk_runtime.service.service import Service

MAX_PICTURE_SIDE = 640  # pixels
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "video/*")},
    }
}
Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="an avatar's name")]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The upload ended before its end",
        403: "This service takes no avatars, or this one is the operator's",
        408: "The upload took too long",
        409: "There is one of that name already, or a session uses it",
        413: "The upload is too large",
        507: "There is no room for another avatar",
    }.items()
}

router = APIRouter(prefix="/v1/avatars", tags=["avatars"], responses=ERRORS)


def store_of(service: TheService) -> AvatarStore:
    """Where uploads go; raises ServiceError."""
    return service.require_store()


TheStore = Annotated[AvatarStore, in_loop(store_of)]


@router.get("")
async def list_avatars(service: TheService, access: TheAccess) -> list[AvatarAnswer]:
    """The avatars there are, those that are being made, and those that could not be."""
    store = service.store
    names = [*service.avatars, *store.new, *store.broken] if store else service.avatars
    return [_answer(name, service, access) for name in dict.fromkeys(names)]


@router.post("", status_code=202, openapi_extra=UPLOAD_BODY, responses=REFUSALS)
async def make_avatar(
    service: TheService,
    store: TheStore,
    access: TheAccess,
    request: Request,
    response: Response,
    name: Annotated[str, Query(pattern=f"^{NAME.pattern}$", description="letters, digits, - and _")],
    face_box: Annotated[
        str | None,
        Query(
            pattern=r"^-?\d{1,5}(,-?\d{1,5}){3}$",
            description="x0,y0,x1,y1 in pixels: the face in every frame, from the eyebrows to just below the chin, "
            "instead of finding it",
        ),
    ] = None,
) -> AvatarAnswer:
    """Make an avatar of a photo or video, which is the body: one person, the face well visible.

    It answers when the file is there, at most 256 MiB; then it is prepared, see `events`. A video plays forth and back,
    so a few seconds do; of a longer one the first 30 s are used.
    """
    with service.upload("avatar"):
        new = store.begin(name, _box(face_box))
        await store.receive(new, read_chunks(request, service.settings, spend_of(token_of(request))))
    answer = _answer(name, service, access)
    response.headers["Location"] = f"{access.root_path}/v1/avatars/{name}"
    return answer


@router.get("/{name}")
async def show_avatar(name: Name, service: TheService, access: TheAccess) -> AvatarAnswer:
    """How an avatar is."""
    return _answer(name, service, access)


@router.get("/{name}/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def watch_avatar(name: Name, service: TheService, access: TheAccess) -> Response:
    """How its making goes, as server-sent events, until it is ready or has failed.

    `state` {state, warnings, error}, first at once; `progress` {stage, done, total}.
    """
    new = service.store.new.get(name) if service.store else None
    if new:
        return StreamingBody(new.events.subscribe(new.snapshot()), "text/event-stream", lambda: None)
    answer = _answer(name, service, access)
    return StreamingBody(_once(ServerSentEvent("state", {"state": answer.state})), "text/event-stream", lambda: None)


@router.get("/{name}/picture.jpg", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def picture_avatar(name: Name, service: TheService) -> Response:
    """Its first frame with a face, as JPEG."""
    if name not in service.avatars:
        raise _unknown(name)
    run = asyncio.get_running_loop().run_in_executor
    data = await run(service.workers, _picture, service.avatars[name])
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-cache"})


@router.delete(
    "/{name}",
    status_code=204,
    response_class=Response,
    responses={n: REFUSALS[n] for n in (403, 409)},
    dependencies=[in_loop(store_of)],
)
async def delete_avatar(name: Name, service: TheService) -> None:
    """Delete an uploaded avatar that no session uses, or end its making."""
    await service.delete_avatar(name)


def _answer(name: str, service: Service, access: Access) -> AvatarAnswer:
    path, store = f"/v1/avatars/{name}", service.store
    answer = AvatarAnswer(
        name=name,
        state="ready",
        uploaded=store is not None and name in {*store.kept, *store.new, *store.broken},
        events=access.link(f"{path}/events"),
        picture=access.link(f"{path}/picture.jpg"),
    )
    if name in service.avatars:
        avatar = service.avatars[name]
        answer.width, answer.height, answer.frames = avatar.width, avatar.height, len(avatar)
        answer.faces = int(avatar.has_face.sum())
        answer.poses = list(avatar.poses)
        answer.bundles = service.catalog.bundles_of(name)
        answer.face_box = tuple(avatar.boxes[_shown(avatar)].tolist())
        answer.warnings = tuple(store.new[name].warnings) if store and name in store.new else ()
    elif store and name in store.new:
        new = store.new[name]
        answer.state, answer.error = new.state, new.error
        if new.progress:
            stage, done, total = new.progress
            answer.progress = AvatarProgress(stage=stage, done=done, total=total)
    elif store and name in store.broken:
        answer.state, answer.error = "failed", store.broken[name]
    else:
        raise _unknown(name)
    return answer


def _unknown(name: str) -> ServiceError:
    return ServiceError(404, "unknown_avatar", f"no avatar {name!r}")


def _box(text: str | None) -> Box | None:
    if text is None:
        return None
    x0, y0, x1, y1 = map(int, text.split(","))
    return x0, y0, x1, y1


async def _once(event: ServerSentEvent) -> AsyncIterator[bytes]:
    yield event.encode()


def _shown(avatar: Avatar) -> int:
    """The first frame with a face."""
    return int(np.argmax(avatar.has_face))


def _picture(avatar: Avatar) -> bytes:
    rgb = Frame(0, Fraction(0), avatar.frame(_shown(avatar)), np.empty((1, 0), np.float32)).rgb()
    scale = min(1.0, MAX_PICTURE_SIDE / max(rgb.shape[:2]))
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1])
