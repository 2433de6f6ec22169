"""``/healthz``, ``/readyz``, ``/metrics``, ``/v1/limits`` and ``/v1/devices`` of a fleet."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from musetalk_runtime.fleet.device_client import DeviceLost
from musetalk_runtime.fleet.front.dependencies import TheFront, TheOwner
from musetalk_runtime.fleet.front.metrics import metrics_text
from musetalk_runtime.service.api.dependencies import ERRORS
from musetalk_runtime.service.api.schema import LimitsAnswer
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError

router = APIRouter(tags=["health"])


class DeviceAnswer(BaseModel):
    """A device: whether it answers, whether new sessions are let in, how many run, and how many more fit."""

    name: str
    up: bool
    admits: bool = False
    sessions: int = 0
    free: int = 0
    avatars: list[str] = []


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: ERRORS[503]})
async def readyz(front: TheFront) -> dict[str, str | int]:
    """Whether a device answers, and how many more sessions fit on all of them."""
    if not front.rooms.up:
        raise ServiceError(503, "no_devices", "no device answers", RETRY_SOON)
    return {"status": "ready", "free": front.rooms.free}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(front: TheFront) -> Response:
    """Figures for Prometheus."""
    return Response(metrics_text(front), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/metrics/{name}", response_class=PlainTextResponse)
async def device_metrics(name: Annotated[str, Path(max_length=64)], front: TheFront, owner: TheOwner) -> Response:
    """Figures of one device for Prometheus, which could not ask it."""
    if name not in front.monitor.devices:
        raise ServiceError(404, "unknown_device", f"no device {name!r}")
    try:
        answer = await front.client.ask(front.monitor.devices[name], "GET", "/metrics", owner)
    except DeviceLost as error:
        raise ServiceError(503, "device_silent", f"device {name} does not answer: {error}", RETRY_SOON) from None
    return Response(answer.body, answer.status, answer.headers)


@router.get("/v1/devices")
async def list_devices(front: TheFront) -> list[DeviceAnswer]:
    """The devices there are."""
    return [
        DeviceAnswer(
            name=name,
            up=True,
            admits=status.admits,
            sessions=status.sessions,
            free=front.rooms[name].free,
            avatars=sorted(status.avatars),
        )
        if (status := front.rooms.up.get(name))
        else DeviceAnswer(name=name, up=False)
        for name in sorted(front.rooms.known)
    ]


@router.get("/v1/limits", response_model=LimitsAnswer)
async def limits(front: TheFront, owner: TheOwner) -> Response:
    """What the devices take, as one of them says."""
    for name in front.rooms.up:
        try:
            told: Any = (await front.client.ask(front.monitor.devices[name], "GET", "/v1/limits", owner)).json()
        except (DeviceLost, KeyError):
            continue
        return JSONResponse(told)
    raise ServiceError(503, "no_devices", "no device answers", RETRY_SOON)
