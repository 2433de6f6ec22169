"""A file that is sent, on its way to the disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path

PIECE = 1 << 20  # bytes written at once


async def write_upload(
    path: Path, chunks: AsyncIterator[bytes], workers: Executor, grow: Callable[[int], None]
) -> None:
    """Write `chunks` to the new file `path`, whose folder is made, by threads of `workers`.

    `grow` is told how many bytes came before they are written, and may refuse them by raising. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(workers, lambda: path.parent.mkdir(mode=0o700))
    file = await loop.run_in_executor(workers, lambda: path.open("xb"))
    piece = bytearray()
    try:
        async for chunk in chunks:
            grow(len(chunk))
            piece += chunk
            if len(piece) >= PIECE:
                await loop.run_in_executor(workers, file.write, bytes(piece))
                piece.clear()
        await loop.run_in_executor(workers, file.write, bytes(piece))
    finally:
        await loop.run_in_executor(workers, file.close)
