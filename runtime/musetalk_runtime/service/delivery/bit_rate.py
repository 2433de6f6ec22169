"""The bit rate of a session's video, steered by what its viewers by WebRTC can receive (REMB)."""

import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

from musetalk_runtime.output.video import LEAST_KBPS

BITS_A_PIXEL = 0.15  # at most: 3.5 Mbit/s at 720p and 25 frames a second
MARGIN = 0.9  # of an estimate that is below what is sent: what waits on the way has to leave, too
GROWTH = 1.1  # a report without congestion; receivers report about once a second
WINDOW_S = 1.0


class BitRate:
    """What the video of one session may take: ``most``, in kbit/s, and less while a viewer's path holds less.

    An estimate above what is sent only says that this gets through: then the rate rises slowly. One below is taken at
    once. The viewer who can receive least decides. `sent` is for the session's thread, `now` for any, all else for the
    event loop.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = self._kbps = most
        self._clock = clock
        self._limits: dict[str, float] = {}
        self._sent: deque[tuple[float, int]] = deque(maxlen=256)  # when, and bytes

    def now(self) -> int:
        """kbit/s that it may take now."""
        return self._kbps

    def sent(self, size: int) -> None:
        """Note that a frame of `size` bytes is sent."""
        self._sent.append((self._clock(), size))

    def estimate(self, viewer: str, kbps: float) -> None:
        """Take what `viewer` estimates that it can receive."""
        limit = self._limits.get(viewer, self.most)
        limit = kbps * MARGIN if kbps < min(limit, self._sending()) else limit * GROWTH
        self._limits[viewer] = min(float(self.most), max(float(LEAST_KBPS), limit))
        self._decide()

    def forget(self, viewer: str) -> None:
        """The viewer has left."""
        self._limits.pop(viewer, None)
        self._decide()

    def _decide(self) -> None:
        self._kbps = round(min(self._limits.values(), default=self.most))

    def _sending(self) -> float:
        """kbit/s in the last second."""
        since = self._clock() - WINDOW_S
        return sum(size for at, size in tuple(self._sent) if at >= since) * 8 / 1000 / WINDOW_S


def most_kbps(width: int, height: int, fps: Fraction) -> int:
    """What the video of a session by WebRTC may take."""
    return max(LEAST_KBPS, round(width * height * fps * BITS_A_PIXEL / 1000))
