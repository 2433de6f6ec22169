"""A stream of server-sent events for any number of subscribers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MAX_QUEUED = 64  # events that wait for a slow subscriber; then the oldest are dropped
HEARTBEAT_S = 10.0  # seconds without an event after which a comment is sent
RETRY = b"retry: 1000\n\n"  # milliseconds after which a browser that was cut off connects again


@dataclass(frozen=True)
class ServerSentEvent:
    """One event: its name, and its data, which is sent as JSON."""

    name: str
    content: dict[str, Any]

    def encode(self) -> bytes:
        """The event in the form of ``text/event-stream``."""
        return f"event: {self.name}\ndata: {json.dumps(self.content)}\n\n".encode()


class EventStream:
    """The events of one session or avatar. `publish` and `end` are for any thread, the rest for the event `loop`.

    ``subscriptions`` counts the subscribers so far, ``subscribers`` those that are still there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.subscriptions = 0
        self._loop = loop
        self._queues: set[asyncio.Queue[ServerSentEvent | None]] = set()
        self._ended = False

    @property
    def subscribers(self) -> int:
        return len(self._queues)

    def publish(self, name: str, **content: Any) -> None:
        """Send an event to every subscriber; never waits."""
        self._call(ServerSentEvent(name, content))

    def end(self) -> None:
        """End every subscription once the events published before are sent."""
        self._call(None)

    async def subscribe(self, first: ServerSentEvent) -> AsyncIterator[bytes]:
        """The encoded events from now on, after `first`, with a comment from time to time when there are none."""
        queue: asyncio.Queue[ServerSentEvent | None] = asyncio.Queue(MAX_QUEUED)
        self._queues.add(queue)
        self.subscriptions += 1
        try:
            yield first.encode() + RETRY
            while not (self._ended and queue.empty()):
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except asyncio.TimeoutError:
                    yield b": alive\n\n"
                    continue
                if event is None:
                    return
                yield event.encode()
        finally:
            self._queues.discard(queue)

    def _call(self, event: ServerSentEvent | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: ServerSentEvent | None) -> None:
        self._ended = self._ended or event is None
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
