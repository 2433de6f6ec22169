"""``/v1/limits``: what this service takes."""

from fastapi import APIRouter

from musetalk_runtime.service.api.dependencies import TheService
from musetalk_runtime.service.api.schema import LimitsAnswer
from musetalk_runtime.service.session import clip

router = APIRouter(prefix="/v1", tags=["health"])


@router.get("/limits")
async def limits(service: TheService) -> LimitsAnswer:
    """What this service takes, so that a page need not try."""
    store = service.store
    return LimitsAnswer(
        clip_bytes=clip.LARGEST,
        clip_seconds=clip.LONGEST,
        avatar_bytes=store.bounds.upload if store else 0,
        finds_faces=store is not None and store.detects,
    )
