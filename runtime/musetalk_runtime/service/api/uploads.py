"""The body of an upload: its chunks, charged to its sender, and a clip decoded from them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.clip import Clip, decode_clip
from musetalk_runtime.service.settings import Settings

CLIP_TIMEOUT_S = 60.0  # seconds that the upload of a clip may take
CLIP_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}
}
LIMIT_SPENT = "this token has sent all that it may in an hour"

Spend = Callable[[int], bool]
"""Charges a sender so many bytes; False where that is more than it may send."""


def spend_of(owner: Token | None) -> Spend:
    """Charges the holder of a token, or nobody."""
    return owner.uploads.spend if owner else lambda _: True


async def read_chunks(request: Request, settings: Settings, spend: Spend) -> AsyncIterator[bytes]:
    """The body of `request`, piece by piece, as fast as ``settings.upload_rate`` at least; raises ServiceError."""
    stream, patience = aiter(request.stream()), settings.body_timeout
    try:
        while True:
            asked_at = time.monotonic()
            chunk = await asyncio.wait_for(anext(stream, None), patience)
            if chunk is None:
                return
            if not spend(len(chunk)):
                raise ServiceError(429, "upload_limit", LIMIT_SPENT, {"Retry-After": "60"})
            behind = patience - (time.monotonic() - asked_at)
            patience = min(settings.body_timeout, max(0.0, behind) + len(chunk) / settings.upload_rate)
            yield chunk
    except asyncio.TimeoutError:
        raise ServiceError(
            408, "too_slow", f"an upload has to bring {settings.upload_rate / 1024:g} KiB a second"
        ) from None
    except ClientDisconnect:
        raise ServiceError(400, "incomplete", "the upload ended before its end") from None


async def read_clip(request: Request, service: Service, spend: Spend) -> Clip:
    """The clip in the audio file that is the body of `request`; raises ServiceError or InvalidMedia."""
    settings = service.settings
    try:
        body = await asyncio.wait_for(_read(request, settings, spend), CLIP_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ServiceError(408, "too_slow", f"the upload took more than {CLIP_TIMEOUT_S:g} s") from None
    run = asyncio.get_running_loop().run_in_executor
    return await run(service.workers, decode_clip, body, settings.clip_seconds)


async def _read(request: Request, settings: Settings, spend: Spend) -> bytes:
    body = bytearray()
    async for chunk in read_chunks(request, settings, spend):
        body += chunk
        if len(body) > settings.clip_bytes:
            most = f"{settings.clip_bytes / (1 << 20):g} MiB and {settings.clip_seconds:g} s"
            raise ServiceError(413, "too_large", f"a clip has at most {most}")
    return bytes(body)
