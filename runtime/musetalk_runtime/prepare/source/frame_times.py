"""When the frames of a video appear."""

from fractions import Fraction

import av

BEGINS_AGAIN_S = 0.5  # seconds that a timestamp goes back by where another file was joined


class FrameTimes:
    """The times of frames in ``seconds``, which do not decrease. One lasts `interval` seconds where nothing says so.

    Where a file was joined to another its timestamps begin again; its frames follow those before. Attributes:
    ``begins_again`` (after how many seconds that is, the first time; None where it is not so).
    """

    def __init__(self, interval: float) -> None:
        self.seconds: list[float] = []
        self.begins_again: float | None = None
        self._interval = self._lasts = interval
        self._shift = 0.0  # of a file that was joined

    def add(self, frame: av.VideoFrame) -> None:
        """Note the next `frame`."""
        previous = self.seconds[-1] if self.seconds else 0.0
        time = previous + self._interval if frame.time is None else frame.time + self._shift
        if self.seconds and time < previous - BEGINS_AGAIN_S:
            if self.begins_again is None:
                self.begins_again = self.span
            follows = previous + (self._lasts or self.span / max(1, len(self.seconds) - 1))
            self._shift, time = self._shift + follows - time, follows
        self.seconds.append(max(time, previous) if self.seconds else time)
        self._lasts = float((frame.duration or 0) * (frame.time_base or Fraction(0)))

    @property
    def span(self) -> float:
        """Seconds from the first frame to the last."""
        return self.seconds[-1] - self.seconds[0]

    @property
    def end(self) -> float:
        """When the last one ends."""
        return self.seconds[-1] + max(self._interval, self._lasts)
