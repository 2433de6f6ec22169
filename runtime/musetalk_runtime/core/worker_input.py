"""The standard input of a worker process."""

import asyncio
import errno


async def send(process_input: asyncio.StreamWriter | None, data: bytes) -> None:
    """Write `data`, and wait until there is room for more; raises ConnectionError where the worker reads no more."""
    if process_input is None or process_input.is_closing():  # writing to it then is an error of its own in uvloop
        raise BrokenPipeError(errno.EPIPE, "it has ended")
    process_input.write(data)
    await process_input.drain()
