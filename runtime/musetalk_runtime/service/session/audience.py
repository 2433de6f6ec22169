"""Who watches a session."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Audience:
    """The viewers of one session. `changed` is told whenever one comes or goes. For the event loop.

    Attributes: ``viewers`` (how many watch now), ``live`` (how many of them play what comes as it comes, as by WebRTC),
    ``peers`` (what ends each WebRTC connection, by its id).
    """

    def __init__(self, changed: Callable[["Audience"], None]) -> None:
        self.viewers = self.live = 0
        self.peers: dict[str, Callable[[], Awaitable[None]]] = {}
        self._changed = changed
        self._seen_at = time.monotonic()

    def add(self, live: bool = False) -> None:
        """Count one more viewer, until `remove`; whether it plays what comes as it comes (`live`)."""
        self.viewers += 1
        self.live += live
        self._changed(self)

    def remove(self, live: bool = False) -> None:
        """Count one viewer less."""
        self.viewers -= 1
        self.live -= live
        self.touch()
        self._changed(self)

    def add_peer(self, key: str, close: Callable[[], Awaitable[None]]) -> None:
        """Count a viewer by WebRTC, until `remove_peer`; `close` ends its connection."""
        self.peers[key] = close
        self.add(live=True)

    def remove_peer(self, key: str) -> None:
        """Count one viewer by WebRTC less. Twice is fine."""
        if self.peers.pop(key, None):
            self.remove(live=True)

    async def close_peers(self) -> None:
        """End all WebRTC connections."""
        await asyncio.gather(*(close() for close in self.peers.values()))

    def touch(self) -> None:
        """Note that somebody watches now."""
        self._seen_at = time.monotonic()

    @property
    def unwatched(self) -> float:
        """Seconds since `touch`, or since a viewer left."""
        return time.monotonic() - self._seen_at
