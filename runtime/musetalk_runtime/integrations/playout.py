"""The playout of a stream that comes over a network: an even pace, with as few frames waiting as that needs."""

import asyncio
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import NV12, Floats

LATE_S = 0.01  # seconds that a frame may come after its time, until those after it are shown later too
WATCHED_S = 0.4  # seconds in which more frames wait than are needed, until some are left out
SPARE_FRAMES = 1  # that are left to wait


@dataclass(frozen=True)
class PlayedFrame:
    """A picture, its time ``pts`` in seconds of the stream, and the ``sound`` of its duration, mono ``[n]``, 48 kHz."""

    pts: Fraction
    nv12: NV12
    sound: Floats


class Playout:
    """Puts the pictures and the sound of a stream at `fps` together, and hands out frames when they are due.

    A frame that comes late has those after it come later. Where frames keep waiting, every other one is left out while
    it is quiet, until no more wait than are needed: what is seen is as live as the network allows. For the event loop.
    """

    def __init__(self, fps: Fraction) -> None:
        self._fps = fps
        self._pictures: deque[tuple[Fraction, NV12]] = deque()
        self._sound: deque[tuple[int, Floats]] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._due = 0.0  # when the next frame is, by the loop's clock
        self._least, self._watched = 1 << 30, 0  # frames that waited, at the least, in so many frames
        self._excess = 0  # frames to leave out

    def add_picture(self, pts: Fraction, nv12: NV12) -> None:
        """Take the next picture."""
        self._pictures.append((pts, nv12))
        self._changed.set()

    def add_sound(self, first: int, samples: Floats) -> None:
        """Take the next `samples`, the first of which has this number."""
        self._sound.append((first, samples))
        self._changed.set()

    def end(self, error: Exception | None) -> None:
        """Nothing more comes."""
        self._ended, self._error = True, error
        self._changed.set()

    def skip(self, seconds: float) -> None:
        """Leave out what is shown before `seconds` of the stream."""
        while self._pictures and self._pictures[0][0] < seconds:
            self._pictures.popleft()

    async def next(self, quiet: bool) -> PlayedFrame | None:
        """The next frame, when it is due; None at the end. Raises what ended it. If `quiet`, one may be left out."""
        loop = asyncio.get_running_loop()
        while True:
            if not await self._wait():
                return None
            if (wait := self._due - loop.time()) <= 0:
                break
            await asyncio.sleep(wait)  # and look again: what waited may have been skipped
        if loop.time() - self._due > LATE_S:
            self._due = loop.time()
        self._due += float(1 / self._fps)
        self._watch()
        if quiet and self._excess > 0 and len(self._pictures) > 1:
            self._excess -= 1
            self._take()
        return self._take()

    async def _wait(self) -> bool:
        """Wait for a frame and its sound; whether there is one."""
        while not (self._pictures and (self._ended or self._has_sound(self._pictures[0][0]))):
            if self._ended:
                if self._error:
                    raise self._error
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def _has_sound(self, pts: Fraction) -> bool:
        if not self._sound:
            return False
        first, samples = self._sound[-1]
        return first + len(samples) >= self._end(pts)

    def _end(self, pts: Fraction) -> int:
        return int((pts + 1 / self._fps) * SOUND_RATE)

    def _watch(self) -> None:
        """Find how many more frames than needed have waited for a while."""
        self._least = min(self._least, len(self._pictures) - 1)
        self._watched += 1
        if self._watched >= WATCHED_S * self._fps:
            self._excess = self._least - SPARE_FRAMES
            self._least, self._watched = 1 << 30, 0

    def _take(self) -> PlayedFrame:
        pts, nv12 = self._pictures.popleft()
        begin, end = int(pts * SOUND_RATE), self._end(pts)
        sound = np.zeros(end - begin, np.float32)
        while self._sound and self._sound[0][0] < end:
            first, samples = self._sound[0]
            low, high = max(begin, first), min(end, first + len(samples))
            if low < high:
                sound[low - begin : high - begin] = samples[low - first : high - first]
            if first + len(samples) > end:
                break
            self._sound.popleft()
        return PlayedFrame(pts, nv12, sound)
