"""What is told of a session while it runs: to pages, by server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

KEPT = 64  # notices that wait for a slow listener; then the oldest are dropped
HEARTBEAT = 10.0  # seconds
RETRY = b"retry: 1000\n\n"  # milliseconds after which a listener that was cut off comes back


@dataclass(frozen=True)
class Notice:
    """One event: its name and what goes with it, as JSON."""

    name: str
    content: dict[str, Any]

    def encode(self) -> bytes:
        """As in ``text/event-stream``."""
        return f"event: {self.name}\ndata: {json.dumps(self.content)}\n\n".encode()


class Notices:
    """The notices of one session. `post` is for any thread, `listen` for the event `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listeners: set[asyncio.Queue[Notice | None]] = set()
        self._ended = False

    def post(self, name: str, **content: Any) -> None:
        """Tell every listener; never waits."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._deliver, Notice(name, content))

    def end(self) -> None:
        """Let every listener go, after what was posted."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, None)

    async def listen(self, first: Notice) -> AsyncIterator[bytes]:
        """The events from now on, after `first`; a comment now and then when there are none."""
        queue: asyncio.Queue[Notice | None] = asyncio.Queue(KEPT)
        self._listeners.add(queue)
        try:
            yield first.encode() + RETRY
            while not (self._ended and queue.empty()):
                try:
                    notice = await asyncio.wait_for(queue.get(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield b": alive\n\n"
                    continue
                if notice is None:
                    return
                yield notice.encode()
        finally:
            self._listeners.discard(queue)

    def _deliver(self, notice: Notice | None) -> None:
        self._ended = self._ended or notice is None
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(notice)
