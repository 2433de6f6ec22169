"""The window: the newest fragments of a stream, held in memory for its viewers."""

import asyncio
import threading
from collections import deque
from contextlib import suppress

from musetalk_runtime.service.delivery.fragments import Fragment

HELD_SECONDS = 12.0
MAX_HELD_BYTES = 64 << 20


class Window:
    """The newest fragments of one stream: at most ``seconds`` and `size` bytes, but at least one.

    One thread writes (`begin`, `append`, `end`) and never waits for a reader. Everything else is for readers, in the
    event `loop`; between two of their looks it may have written, and ended. ``init`` is None until there is one;
    ``ended`` tells that nothing more will come, and ``error``, if it is not None, why not.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float = HELD_SECONDS, size: int = MAX_HELD_BYTES
    ) -> None:
        self.init: bytes | None = None
        self.ended = False
        self.error: str | None = None
        self._loop = loop
        self.seconds = seconds
        self._room = size
        self._fragments: deque[Fragment] = deque()
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()  # of the loop alone

    def begin(self, init: bytes) -> None:
        """Take the init segment."""
        self.init = init
        self._wake_readers()

    def append(self, *fragments: Fragment) -> None:
        """Take the next fragments, and drop the oldest that fit no more."""
        with self._lock:
            for fragment in fragments:
                self._fragments.append(fragment)
                self._room -= len(fragment.data)
                while len(self._fragments) > 1 and (
                    self._room < 0 or fragment.start - self._fragments[1].start >= self.seconds
                ):
                    self._room += len(self._fragments.popleft().data)
        self._wake_readers()

    def end(self, error: str | None = None) -> None:
        """Tell every reader that nothing more comes, and why if that is an error."""
        self.error, self.ended = error, True
        self._wake_readers()

    def get(self, number: int, size: int = 0) -> list[Fragment]:
        """The fragment `number`, if it is held, and those after it, until they have `size` bytes."""
        found: list[Fragment] = []
        with self._lock:
            place = number - self._fragments[0].number if self._fragments else -1
            while 0 <= place < len(self._fragments) and (not found or size > 0):
                found.append(self._fragments[place])
                size -= len(found[-1].data)
                place += 1
        return found

    def held(self) -> list[Fragment]:
        """All that is held, in order."""
        with self._lock:
            return list(self._fragments)

    def newest_keyframe(self) -> Fragment | None:
        """Where a viewer joins."""
        with self._lock:
            return next((fragment for fragment in reversed(self._fragments) if fragment.keyframe), None)

    def newest(self) -> Fragment | None:
        """The last fragment taken."""
        with self._lock:
            return self._fragments[-1] if self._fragments else None

    def dropped(self, number: int) -> bool:
        """Whether the fragment `number` was taken and is held no more."""
        with self._lock:
            return bool(self._fragments) and number < self._fragments[0].number

    def end_offset(self) -> int:
        """Bytes of the stream so far."""
        newest = self.newest()
        return newest.end if newest else len(self.init or b"")

    async def changed(self) -> None:
        """Wait until the writer has done something. Look, then call this, with no other ``await`` between."""
        waiter = self._loop.create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _wake_readers(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
