"""A worker process that an event loop talks with."""

import asyncio
import errno
import threading
from asyncio import ReadTransport, StreamReader, StreamReaderProtocol, StreamWriter
from collections.abc import Sequence
from contextlib import suppress
from subprocess import Popen
from typing import IO

from musetalk_runtime.core.worker import start_worker


class WorkerProcess:
    """A running process, of which `start` makes one, and for which `end` has to be awaited. For one event loop.

    - pid: its number
    - output: what it writes
    """

    def __init__(
        self, process: Popen[bytes], process_input: StreamWriter, reading: ReadTransport, output: StreamReader
    ) -> None:
        self.pid = process.pid
        self.output = output
        self._process = process
        self._input = process_input
        self._reading = reading
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, name="worker process", daemon=True).start()

    @classmethod
    async def start(cls, command: Sequence[str]) -> "WorkerProcess":
        """Run `command`; raises OSError. See `start_worker`.

        Not by the event loop: uvloop's forks, and runs Python in the child, which then may hang for a lock that another
        thread of this process held.
        """
        opening = asyncio.ensure_future(cls._opened(start_worker(command)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # not midway: uvloop would close the descriptors of files that stay open
            await (await opening).end()
            raise

    @property
    def status(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        return self._process.returncode if self._ended.is_set() else None

    async def send(self, data: bytes) -> None:
        """Write `data`, and wait until there is room for more; raises ConnectionError where it reads no more."""
        if self._ended.is_set() or self._input.is_closing():  # uvloop may not see it, or raise RuntimeError
            raise BrokenPipeError(errno.EPIPE, "it has ended")
        self._input.write(data)
        await self._input.drain()

    def close_input(self) -> None:
        """Let it read what was sent, and then the end."""
        self._input.close()

    def kill(self) -> None:
        """End it by SIGKILL; what it wrote can still be read. An ended one is fine."""
        self._process.kill()

    async def wait(self) -> int:
        """Wait until it ends; gives its exit status, or minus the signal that ended it."""
        await self._ended.wait()
        return int(self._process.returncode)

    async def end(self) -> None:
        """End it by SIGKILL, if it runs, and close its pipes. Twice is fine."""
        self.kill()
        if not self._input.is_closing():
            self._input.transport.abort()
        self._reading.close()
        await self.wait()

    @classmethod
    async def _opened(cls, process: Popen[bytes]) -> "WorkerProcess":
        return cls(process, await _writer(process.stdin), *await _reader(process.stdout))

    def _watch(self) -> None:
        self._process.wait()
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._ended.set)


async def _writer(pipe: IO[bytes] | None) -> StreamWriter:
    loop = asyncio.get_running_loop()
    room = StreamReaderProtocol(StreamReader())  # nothing is read: it knows when there is room
    transport, _ = await loop.connect_write_pipe(lambda: room, pipe)
    return StreamWriter(transport, room, None, loop)


async def _reader(pipe: IO[bytes] | None) -> tuple[ReadTransport, StreamReader]:
    output = StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(output), pipe)
    return transport, output
