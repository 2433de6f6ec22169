"""``/v1/avatars`` of a fleet: uploads, which go to one device and spread from there."""

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from musetalk_runtime.core.names import NAME
from musetalk_runtime.fleet.device_client import Answer, DeviceLost
from musetalk_runtime.fleet.front.dependencies import TheFront, TheOwner
from musetalk_runtime.fleet.front.front import Front, linked
from musetalk_runtime.service.api.avatars import REFUSALS, UPLOAD_BODY
from musetalk_runtime.service.api.dependencies import ERRORS
from musetalk_runtime.service.api.schema import AvatarAnswer
from musetalk_runtime.service.api.uploads import read_chunks, spend_of
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.service.security.tokens import Token

MAX_COPIES = 10_000
BEST = ("ready", "preparing", "waiting", "receiving", "failed")  # states, from the one that tells most
Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="an avatar's name")]


class FleetAvatarAnswer(AvatarAnswer):
    """An avatar of a fleet, and the devices that have it or make it."""

    devices: tuple[str, ...] = ()


router = APIRouter(prefix="/v1/avatars", tags=["avatars"], responses=ERRORS)


@router.get("", response_model=list[FleetAvatarAnswer])
async def list_avatars(front: TheFront, owner: TheOwner) -> Response:
    """The avatars on all devices."""
    return JSONResponse(list((await _found(front, owner)).values()))


@router.post("", status_code=202, response_model=FleetAvatarAnswer, openapi_extra=UPLOAD_BODY, responses=REFUSALS)
async def make_avatar(
    front: TheFront,
    owner: TheOwner,
    request: Request,
    name: Annotated[str, Query(pattern=f"^{NAME.pattern}$", description="letters, digits, - and _")],
    face_box: Annotated[
        str | None, Query(pattern=r"^-?\d{1,5}(,-?\d{1,5}){3}$", description="as a device has it")
    ] = None,
    copies: Annotated[int, Query(ge=1, le=MAX_COPIES, description="on how many devices it is wanted")] = 1,
) -> Response:
    """Make an avatar of a photo or video, which is the body. One device prepares it; then others take it."""
    if copies > 1 and front.registry is None:
        raise ServiceError(422, "no_registry", "copies need a registry: the front end was started without one")
    if name in await _found(front, owner):
        raise ServiceError(409, "exists", f"there is an avatar {name!r} already: choose another name, or delete it")
    chosen = max(front.rooms.up, key=lambda name: front.rooms[name].free, default=None)
    if chosen is None:
        raise ServiceError(503, "no_devices", "no device answers", RETRY_SOON)
    if front.registry:
        await asyncio.to_thread(front.registry.set_copies, name, copies)
    query = urlencode({"name": name, **({"face_box": face_box} if face_box else {})})
    chunks = read_chunks(request, front.settings, spend_of(owner))
    device = front.monitor.devices[chosen]
    try:
        answer = await front.client.ask(device, "POST", f"/v1/avatars?{query}", owner, chunks)
    except DeviceLost as error:
        front.rooms.lose(chosen)
        raise ServiceError(503, "device_silent", f"device {chosen} does not answer: {error}", RETRY_SOON) from None
    if answer.status != 202:
        if front.registry:
            await asyncio.to_thread(front.registry.forget, "avatar", name)
        raise answer.error()
    told = {**linked(device, answer.json()), "devices": [chosen]}
    return JSONResponse(told, 202, {"Location": f"/v1/avatars/{name}"})


@router.get("/{name}", response_model=FleetAvatarAnswer)
async def show_avatar(name: Name, front: TheFront, owner: TheOwner) -> Response:
    """How an avatar is."""
    return JSONResponse(await _find(front, owner, name))


@router.get("/{name}/picture.jpg", status_code=307, response_class=Response)
async def picture_avatar(name: Name, front: TheFront, owner: TheOwner) -> Response:
    """Lead to its picture on a device."""
    return RedirectResponse(str((await _find(front, owner, name))["picture"]), 307)


@router.delete("/{name}", status_code=204, response_class=Response, responses={n: REFUSALS[n] for n in (403, 409)})
async def delete_avatar(name: Name, front: TheFront, owner: TheOwner) -> None:
    """Delete an avatar that no session uses, on all devices and in the registry.

    Devices that do not answer delete it once they are back.
    """
    avatar = await _find(front, owner, name)
    if front.registry:
        await asyncio.to_thread(front.registry.set_copies, name, 0)  # so that nobody takes it meanwhile
    for device in [front.monitor.devices[name] for name in avatar["devices"]]:
        try:
            answer = await front.client.ask(device, "DELETE", f"/v1/avatars/{name}", owner)
        except DeviceLost:
            continue
        if answer.status not in (204, 404):
            if front.registry:
                await asyncio.to_thread(front.registry.set_copies, name, len(avatar["devices"]))
            raise answer.error()
    if front.registry:
        await asyncio.to_thread(front.registry.forget, "avatar", name)


async def _find(front: Front, owner: Token | None, name: str) -> dict[str, Any]:
    found = await _found(front, owner)
    if name not in found:
        raise ServiceError(404, "unknown_avatar", f"no device has an avatar {name!r}")
    return found[name]


async def _found(front: Front, owner: Token | None) -> dict[str, dict[str, Any]]:
    """The avatars of all devices that answer, by name: of each what the device tells that has got furthest with it."""
    devices = [front.monitor.devices[name] for name in front.rooms.up if name in front.monitor.devices]
    answers = await asyncio.gather(
        *(front.client.ask(device, "GET", "/v1/avatars", owner) for device in devices), return_exceptions=True
    )
    found: dict[str, dict[str, Any]] = {}
    for device, answer in zip(devices, answers, strict=True):
        for told in answer.json() if isinstance(answer, Answer) and answer.status == 200 else []:
            name = str(told["name"])
            known = found.get(name)
            names = [*(known["devices"] if known else []), device.name]
            better = known is None or _rank(told) < _rank(known)
            found[name] = {**(linked(device, told) if known is None or better else known), "devices": names}
    return found


def _rank(told: dict[str, Any]) -> int:
    """How little a device has got with an avatar; a state that this version does not know comes last."""
    return BEST.index(told["state"]) if told["state"] in BEST else len(BEST)
