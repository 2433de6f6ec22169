"""``/v1/fleet``: what the front end of a fleet asks its devices. Only a service with a token key has it."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from musetalk_runtime.core.names import NAME
from musetalk_runtime.service.api.dependencies import ERRORS, TheService
from musetalk_runtime.service.api.in_loop import in_loop
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import token_of
from musetalk_runtime.service.security.signed_tokens import FRONT
from musetalk_runtime.service.session.live_session import PROCESS

MAX_NAMES = 4096  # of avatars and of holders, in one answer


class DeviceStatus(BaseModel):
    """How a device is: `free` is how many more sessions fit, `avatars` has the bundles that each goes with, `holders`
    the sessions of each token's holder, and `process` is what the ids of this process' sessions begin with.
    """

    process: Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
    admits: bool
    free: Annotated[int, Field(ge=0, le=100_000)]
    sessions: Annotated[int, Field(ge=0, le=100_000)]
    avatars: Annotated[dict[str, list[str]], Field(max_length=MAX_NAMES)]
    holders: Annotated[dict[str, int], Field(max_length=MAX_NAMES)]


class AdmissionWanted(BaseModel):
    """Whether new sessions are to be let in."""

    model_config = ConfigDict(extra="forbid")

    admits: bool


def check_front(request: Request) -> None:
    """Raise ServiceError for whoever is not the front end."""
    token = token_of(request)
    if token is None or token.name != FRONT:
        raise ServiceError(403, "front_only", "only the front end of the fleet may ask this")


router = APIRouter(prefix="/v1/fleet", tags=["fleet"], responses=ERRORS, dependencies=[in_loop(check_front)])


@router.get("/status")
async def device_status(service: TheService) -> DeviceStatus:
    """How this device is."""
    running = service.sessions.running
    return DeviceStatus(
        process=PROCESS,
        admits=service.admits and not service.draining,
        free=service.free,
        sessions=len(running),
        avatars={name: service.catalog.bundles_of(name) for name in service.avatars},
        holders=Counter(session.owner.name for session in running if session.owner),
    )


@router.put("/admission", status_code=204)
async def set_admission(wanted: AdmissionWanted, service: TheService) -> None:
    """Let new sessions in, or not. Those that run go on."""
    service.admits = wanted.admits


@router.post("/avatars/{name}", status_code=204)
async def adopt_avatar(name: Annotated[str, Path(pattern=f"^{NAME.pattern}$")], service: TheService) -> None:
    """Take in an avatar that was put into the folder of uploads beside those that are served."""
    await service.require_store().adopt(name)
