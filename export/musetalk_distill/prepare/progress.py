"""The progress of a preparation: the share that is done, and the time left."""

import sys
import time
from collections.abc import Sequence
from threading import Lock

from musetalk_distill.prepare.source_video import SourceVideo
from musetalk_runtime.cli.progress import StatusLine
from musetalk_runtime.core.closable import Closable


class Progress(Closable):
    """Writes to stderr; a video counts by its bytes. Videos may be at work in several threads."""

    def __init__(self, sources: Sequence[SourceVideo], program: str) -> None:
        self._program = program
        self._sizes = {video.name: max(1, video.path.stat().st_size) for video in sources}
        self._before = 0.0  # bytes of videos that took no time
        self._done = dict.fromkeys(self._sizes, 0.0)  # bytes that were worked on
        self._begun = time.monotonic()
        self._line, self._lock = StatusLine(), Lock()
        self._stopped = False

    def part(self, video: str, share: float) -> None:
        """The share of `video` that is done. Raises KeyboardInterrupt once all is to stop."""
        if self._stopped:
            raise KeyboardInterrupt
        with self._lock:
            self._done[video] = share * self._sizes[video]
            total, done = sum(self._sizes.values()), sum(self._done.values())
            spent = time.monotonic() - self._begun
            left = spent * (total - self._before - done) / max(done, 1e-9)
            percent = 100 * (self._before + done) / total
            self._line.update(f"{self._program}: {percent:.1f}%, about {_duration(left)} left: {video}")

    def finished(self, video: str, kept: bool) -> None:
        """`video` is done with; `kept`: by an earlier run."""
        with self._lock:
            if kept:
                self._before += self._sizes[video]
            else:
                self._done[video] = self._sizes[video]

    def say(self, text: str) -> None:
        """Tell something that stays to be read."""
        with self._lock:
            self._line.close()
            print(f"{self._program}: {text}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """End the work on every video at its next part."""
        self._stopped = True

    def close(self) -> None:
        self._line.close()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
