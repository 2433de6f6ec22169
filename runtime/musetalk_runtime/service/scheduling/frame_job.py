"""A frame that waits for the engines."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol

from musetalk_runtime.backends.interface import ALL, FrameRequest, Rendering
from musetalk_runtime.core.arrays import Bytes

MAX_WAIT_S = 1.0  # seconds after which a frame is due, whenever it is to be shown


class Timetable(Protocol):
    """What a session says of its frame `index`, asked when a batch is made up."""

    def due(self, index: int) -> float:
        """When it is to be shown, by ``time.monotonic``."""

    def limit(self, index: int) -> float:
        """How far the mouth may open, 0 to 1."""


class Owner(Protocol):
    """The renderer that a frame is for. ``under_way`` counts its frames that the engines have not finished."""

    group: Hashable
    timetable: Timetable
    under_way: int


class PendingFrames:
    """Frames of one session, each of which is a row of some batch. See ``Rendering``."""

    def __init__(self, count: int) -> None:
        self._rows: dict[int, tuple[Rendering, int]] = {}
        self._count = count
        self._error: Exception | None = None
        self._known = threading.Event()

    def set(self, place: int, rendering: Rendering, row: int) -> None:
        """Say that the frame `place` is `row` of `rendering`."""
        self._rows[place] = rendering, row
        if len(self._rows) == self._count:
            self._known.set()

    def fail(self, error: Exception) -> None:
        """Let `wait` raise `error`, unless it is known already where all frames are."""
        if not self._known.is_set():
            self._error = error
            self._known.set()

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        self._known.wait()
        if self._error:
            raise self._error
        wanted = (self._rows[place] for place in range(self._count)[rows])
        return [rendering.wait(slice(row, row + 1))[0] for rendering, row in wanted]

    def finish(self) -> None:
        self.wait()


@dataclass(eq=False)
class FrameJob:
    """One frame of ``owner``; its result goes to the ``place`` of ``frames``. ``submitted``: when, by `now`."""

    request: FrameRequest
    owner: Owner
    frames: PendingFrames
    place: int

    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.submitted = self.now()

    @property
    def due(self) -> float:
        """When it is wanted. The limit lets no frame wait for ever behind more urgent ones."""
        return min(self.submitted + MAX_WAIT_S, self.owner.timetable.due(self.request.speech.index))

    def limit(self) -> None:
        """Make it a frame without a face, if its mouth has been closed meanwhile."""
        speech = self.request.speech
        if speech.weight > 0 and self.owner.timetable.limit(speech.index) <= 0:
            self.request = replace(self.request, speech=replace(speech, weight=0.0))
