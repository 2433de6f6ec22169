"""The reader of a stream: one viewer's position in it."""

from collections.abc import Sequence
from enum import Enum

from musetalk_runtime.service.delivery.fragments import Fragment
from musetalk_runtime.service.delivery.window import Window
from musetalk_runtime.service.errors import FellBehind, StreamFailed

JOINED_BYTES = 1 << 16  # after which what is read is not added to: asyncio's buffers are full then


class Slow(str, Enum):
    """What becomes of a viewer that is slower than the stream: ``skip`` moves it to the newest keyframe, with a gap in
    time; ``end`` ends its response.
    """

    SKIP = "skip"
    END = "end"


class Reader:
    """Reads a window from where `join`, `seek` or `seek_byte` has put it, on to the end of the stream.

    ``offset`` is where in the stream it was put, in bytes; ``time`` that of what was last read, in seconds; ``skipped``
    how often it was moved.
    """

    def __init__(self, window: Window, slow: Slow = Slow.SKIP) -> None:
        self._window = window
        self._slow = slow
        self._next = 1  # number of a fragment
        self._first: bytes | None = None  # what is to be read before it
        self.offset = 0
        self.time = 0.0
        self.skipped = 0

    async def join(self) -> bool:
        """Begin with the init segment and the newest keyframe, once they are there; False if they never come.

        Raises StreamFailed.
        """
        keyframe = await self._keyframe()
        if keyframe is None:
            return False
        self._first, self._next, self.offset = self._window.init, keyframe.number, keyframe.offset
        return True

    async def seek(self, number: int) -> None:
        """Go on with fragment `number`, held or the next to come; raises FellBehind.

        The first one's place in the stream is not known before the init segment, which it waits for.
        """
        while number == 1 and self._window.init is None and not self._window.ended:
            await self._window.changed()
        held = self._window.held()
        first, end = (held[0].number, held[-1].number + 1) if held else (1, 1)
        if not first <= number <= end:
            raise FellBehind(self._end(held))
        self._next, self.offset = number, held[number - first].offset if number < end else self._end(held)

    async def seek_byte(self, offset: int) -> None:
        """Go on with byte `offset` of the stream, held or the next to come; raises FellBehind."""
        init, held = self._window.init or b"", self._window.held()
        fragment = next((f for f in reversed(held) if f.offset <= offset < f.end), None)
        if 0 < offset < len(init) and (not held or held[0].number == 1):
            self._first, self._next = init[offset:], 1
        elif fragment:
            self._first, self._next = fragment.data[offset - fragment.offset :], fragment.number + 1
        elif init and offset == self._end(held):
            self._next = held[-1].number + 1 if held else 1
        else:
            raise FellBehind(self._end(held))
        self.offset = offset

    async def read(self) -> bytes | None:
        """The next bytes, once there are any: some whole fragments; None at the end. Raises StreamFailed or FellBehind.

        What has come meanwhile is given together, since each answer takes as long, however much it is.
        """
        if self._first is not None:
            data, self._first = self._first, None
            return data
        over = self._window.ended  # before the look: then what was made up to the end is seen
        while not (fragments := self._window.get(self._next, JOINED_BYTES)):
            if self._window.dropped(self._next):
                keyframe = await self._move()
                fragments = [keyframe] if keyframe else []
                break
            if over:
                self._check()
                return None
            if not self._window.ended:
                await self._window.changed()
            over = self._window.ended
        if not fragments:
            return None
        self._next, self.time = fragments[-1].number + 1, fragments[0].start
        return b"".join(fragment.data for fragment in fragments)

    async def _move(self) -> Fragment | None:
        if self._slow is Slow.END:
            raise FellBehind(self._window.end_offset())
        self.skipped += 1
        return await self._keyframe()

    async def _keyframe(self) -> Fragment | None:
        """The newest keyframe's fragment; None if the stream ends before there is one. Raises StreamFailed."""
        over = self._window.ended
        while self._window.init is None or (keyframe := self._window.newest_keyframe()) is None:
            if over:
                self._check()
                return None
            if not self._window.ended:
                await self._window.changed()
            over = self._window.ended
        return keyframe

    def _check(self) -> None:
        if self._window.error is not None:
            raise StreamFailed(self._window.error)

    def _end(self, held: Sequence[Fragment]) -> int:
        """Bytes of the stream up to the last of `held`."""
        return held[-1].end if held else len(self._window.init or b"")
