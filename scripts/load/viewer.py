"""A viewer that checks the stream it reads, for scripts."""

import http.client
import threading
import time
from contextlib import suppress
from typing import Any

from musetalk_runtime.service.delivery.mp4_boxes import Run, children, read_runs, read_tracks

MAX_FRAGMENT_S = 0.35  # from the start of one fragment to that of the next


class Viewer(threading.Thread):
    """Reads the stream that `answer` brings, to its end.

    Attributes: ``gaps``, ``keyframes_missed``, ``seconds`` (of video seen), ``first_at`` (when the first fragment came,
    by ``time.monotonic``), ``newest`` (the video of the newest fragment), ``longest_wait`` (seconds between two
    fragments).
    """

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        super().__init__(daemon=True)
        self.first_at: float | None = None
        self.newest: Run | None = None
        self.longest_wait = 0.0
        self._came_at: float | None = None
        self.gaps = self.keyframes_missed = 0
        self.seconds = 0.0
        self._answer = answer
        self._tracks: Any = {}
        self._first: float | None = None
        self._keyframe: float | None = None
        self.start()

    def run(self) -> None:
        buffer = b""
        with suppress(http.client.IncompleteRead, ConnectionError):
            while data := self._answer.read1(1 << 16):
                buffer = self._take(buffer + data)
        self._answer.close()

    def _take(self, data: bytes) -> bytes:
        """Look at the whole boxes in `data`; gives the rest."""
        at = 0
        while len(data) - at >= 8 and len(data) - at >= (size := int.from_bytes(data[at : at + 4], "big")):
            for name, content in children(data[at : at + size]):
                if name == "moov":
                    self._tracks = read_tracks(content)
                elif name == "moof":
                    self._look(content)
            at += size
        return data[at:]

    def _look(self, moof: bytes) -> None:
        for run in read_runs(moof, self._tracks):
            if run.track.kind != "vide":
                continue
            if self.newest is not None and not 0 < run.start - self.newest.start < MAX_FRAGMENT_S:
                self.gaps += 1
            if run.keyframe:
                if self._keyframe is not None and run.start - self._keyframe > 1.05:
                    self.keyframes_missed += 1
                self._keyframe = run.start
            self.newest = run
            now, before = time.monotonic(), self._came_at
            self.longest_wait, self._came_at = max(self.longest_wait, now - (before or now)), now
            self.first_at = self.first_at or now
            self._first = run.start if self._first is None else self._first
            self.seconds = run.start - self._first
