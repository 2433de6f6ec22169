"""The body of an upload: its chunks, charged to its sender, and a clip decoded from them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.clip import Clip, decode_clip

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


async def read_chunks(request: Request, spend: Spend) -> AsyncIterator[bytes]:
    """The body of `request`, piece by piece; raises ServiceError."""
    try:
        async for chunk in request.stream():
            if not spend(len(chunk)):
                raise ServiceError(429, "upload_limit", LIMIT_SPENT, {"Retry-After": "60"})
            yield chunk
    except ClientDisconnect:
        raise ServiceError(400, "incomplete", "the upload ended before its end") from None


async def read_clip(request: Request, service: Service, spend: Spend) -> Clip:
    """The clip in the audio file that is the body of `request`; raises ServiceError or InvalidMedia."""
    settings = service.settings
    try:
        body = await asyncio.wait_for(_read(request, settings.clip_bytes, settings.clip_seconds, spend), CLIP_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise ServiceError(408, "too_slow", f"the upload took more than {CLIP_TIMEOUT_S:g} s") from None
    run = asyncio.get_running_loop().run_in_executor
    return await run(service.workers, decode_clip, body, settings.clip_seconds)


async def _read(request: Request, max_bytes: int, max_seconds: float, spend: Spend) -> bytes:
    body = bytearray()
    async for chunk in read_chunks(request, spend):
        body += chunk
        if len(body) > max_bytes:
            raise ServiceError(413, "too_large", f"a clip has at most {max_bytes} bytes and {max_seconds:g} s")
    return bytes(body)
