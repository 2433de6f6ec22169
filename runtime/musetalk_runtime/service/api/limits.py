"""``/v1/limits``: the limits of what may be uploaded."""

from fastapi import APIRouter

from musetalk_runtime.service.api.dependencies import TheService
from musetalk_runtime.service.api.schema import MAX_TEXT_CHARACTERS, LimitsAnswer

router = APIRouter(prefix="/v1", tags=["health"])


@router.get("/limits")
async def limits(service: TheService) -> LimitsAnswer:
    """What this service takes, so that a page need not try."""
    store = service.store
    no_text = service.why_no_text
    return LimitsAnswer(
        clip_bytes=service.settings.clip_bytes,
        clip_seconds=service.settings.clip_seconds,
        avatar_bytes=store.limits.upload_bytes if store else 0,
        finds_faces=store is not None and store.finds_faces,
        text_characters=0 if no_text else MAX_TEXT_CHARACTERS,
        no_text=no_text,
    )
