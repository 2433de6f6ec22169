"""A client that speaks to a session and watches it, and begins another one when it is lost."""

import http.client
import threading
import time
from typing import Any

from server import Server

from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.delivery.mp4_boxes import children, read_runs, read_tracks

FPS = 10
LATE_S = 1.0  # seconds after its time that a fragment has come too late
PAUSE_S = 5.0  # seconds of silence between one clip and the next


class Watcher(threading.Thread):
    """Has a session, and when it is lost another.

    Attributes, of times by ``time.monotonic``: ``arrivals`` (of fragments), ``missed`` (time, frames that are not
    there), ``late`` (time, seconds), ``lost`` (when sessions ended), and ``frames``, how many were seen.
    """

    def __init__(self, server: Server, voice: bytes, seconds: float) -> None:
        super().__init__(daemon=True)
        self.arrivals: list[float] = []
        self.missed: list[tuple[float, int]] = []
        self.late: list[tuple[float, float]] = []
        self.lost: list[float] = []
        self.frames = 0
        self.path = ""
        self._server, self._voice, self._seconds = server, voice, seconds
        self._ended = threading.Event()
        self.start()
        threading.Thread(target=self._talk, daemon=True).start()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch()
            except (OSError, http.client.HTTPException, InvalidMedia):
                if self.path and not self._ended.is_set():
                    self.lost.append(time.monotonic())
            self.path = ""
            self._ended.wait(0.02)

    def stop(self) -> None:
        """End it, and its session."""
        self._ended.set()
        if self.path:
            self._server.ask("DELETE", self.path)
        self.join(20)

    def say(self) -> int:
        """Say a clip; gives the status."""
        return self._server.ask("POST", f"{self.path}/audio", self._voice, "audio/wav")[0]

    def _watch(self) -> None:
        status, session = self._server.ask("POST", "/v1/sessions", {"avatar": "one", "fps": str(FPS)})
        if status != 201:
            raise ConnectionError(f"no session: {session}")
        self.path = f"/v1/sessions/{session['id']}"
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
        try:
            connection.request("GET", f"{self.path}/stream.mp4")
            self._read(connection.getresponse())
        finally:
            connection.close()
        raise ConnectionError("the stream has ended")

    def _read(self, answer: http.client.HTTPResponse) -> None:
        buffer, self._tracks, self._next, self._base = b"", {}, None, 0.0
        while data := answer.read1(1 << 16):
            buffer += data
            at = 0
            while len(buffer) - at >= 8 and len(buffer) - at >= (size := int.from_bytes(buffer[at : at + 4], "big")):
                for name, content in children(buffer[at : at + size]):
                    if name == "moov":
                        self._tracks: Any = read_tracks(content)
                    elif name == "moof":
                        self._look(content)
                at += size
            buffer = buffer[at:]

    def _look(self, moof: bytes) -> None:
        """Note the video frames of a fragment, those before it that are not there, and when it came."""
        now = time.monotonic()
        for run in read_runs(moof, self._tracks):
            if run.track.kind != "vide":
                continue
            first = round(run.start * FPS)
            if self._next is None:
                self._base = now - run.start
            elif first != self._next:
                self.missed.append((now, abs(first - self._next)))
            if (behind := now - run.start - self._base) > LATE_S:
                self.late.append((now, behind))
                self._base += behind
            self._next: Any = first + run.samples
            self.frames += run.samples
            self.arrivals.append(now)

    def _talk(self) -> None:
        while not self._ended.wait(self._seconds + PAUSE_S):
            try:
                if self.path:
                    self.say()
            except (OSError, http.client.HTTPException):
                continue
