"""Uploads for avatars: their limits, and their way to the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

WRITE_BYTES = 1 << 20  # written at once


@dataclass(frozen=True)
class UploadLimits:
    """What uploads may cost.

    One upload may have `upload_bytes` and take `upload_seconds`; all avatars together `total_bytes`, and there may be
    `avatars` of them. A preparation may take `prepare_seconds`, of time and of one core, and `prepare_memory` bytes. Of
    a video `video_seconds` are used, and frames are scaled down to `max_side` pixels.
    """

    upload_bytes: int = 256 << 20
    upload_seconds: float = 600.0
    total_bytes: int = 4 << 30
    avatars: int = 64
    prepare_seconds: int = 900
    prepare_memory: int = 4 << 30
    video_seconds: float = 30.0
    max_side: int = 1280


async def write_upload(
    path: Path, chunks: AsyncIterator[bytes], workers: Executor, on_chunk: Callable[[int], None]
) -> None:
    """Write `chunks` to the new file `path`, whose folder is made, by threads of `workers`.

    `on_chunk` gets the size of each chunk before it is written, and may refuse it by raising. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(workers, lambda: path.parent.mkdir(mode=0o700))
    file = await loop.run_in_executor(workers, lambda: path.open("xb"))
    buffer = bytearray()
    try:
        async for chunk in chunks:
            on_chunk(len(chunk))
            buffer += chunk
            if len(buffer) >= WRITE_BYTES:
                await loop.run_in_executor(workers, file.write, bytes(buffer))
                buffer.clear()
        await loop.run_in_executor(workers, file.write, bytes(buffer))
    finally:
        await loop.run_in_executor(workers, file.close)
