"""The encoder processes of a service: started before they are needed, and replaced when they end."""

import logging
import threading
import time

from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.processes.encoder_process import START_TIMEOUT_S, EncoderProcess
from musetalk_runtime.output.processes.shared_frames import SharedFrames

POLL_INTERVAL_S = 0.005
SESSIONS_BEFORE_A_WAIT = 8  # more of them share a process, before one waits for another process to start
RELEASE_AFTER_S = 60.0  # seconds without a session, after which memory and processes are given back
log = logging.getLogger(__name__)


class EncoderPool(Closable):
    """Up to `most` encoder processes, which read frames from ``frames``. Safe from any thread.

    Sessions are spread over all of them, and more are started ahead the more are in use. So few sessions wait for one
    to start: those that come in a burst share what is ready, and move on by `relief`. Raises OSError where this system
    has no shared memory.
    """

    def __init__(self, most: int) -> None:
        self.frames = SharedFrames()
        self._most, self._least = most, 0
        self._processes: list[EncoderProcess] = []
        self._lock = threading.Lock()
        self._used_at = time.monotonic()
        self._proven = False  # whether one has ever been ready
        self._closed = False

    def prepare(self) -> None:
        """Start a process, if none is free; returns at once."""
        with self._lock:
            self._forget_ended()
            self._start_spares()
            self._used_at = time.monotonic()

    def keep(self, least: int) -> bool:
        """Have `least` processes from now on, whether they are used or not, and wait until they are ready.

        Whether one is; if not, none is kept.
        """
        with self._lock:
            self._least = min(least, self._most)
            self._start_spares()
        while self._starting:
            time.sleep(POLL_INTERVAL_S)
        with self._lock:
            if not self._prove():
                self._least = 0
            return self._proven

    def acquire(self) -> EncoderProcess | None:
        """The process with the fewest sessions, for one more, until `release`; one that is starting has eight more.

        It may still be starting, if others have shown that they can start here; else None while none is ready.
        """
        with self._lock:
            self._forget_ended()
            chosen = min(self._processes, key=_burden, default=None)
            if self._prove() and chosen:
                chosen.sessions += 1
            self._start_spares()
            self._used_at = time.monotonic()
            return chosen if self._proven else None

    def wait(self) -> EncoderProcess:
        """As `acquire`, but waits for the first one; raises MachineError where none comes."""
        until = time.monotonic() + 2 * START_TIMEOUT_S
        while time.monotonic() < until and not self._closed:
            if process := self.acquire():
                return process
            time.sleep(POLL_INTERVAL_S)
        raise MachineError("no encoder process could be started")

    def relief(self, process: EncoderProcess) -> EncoderProcess | None:
        """One that is ready and has at least two sessions fewer than `process`, for one of those, as by `acquire`."""
        with self._lock:
            fewer = [other for other in self._processes if other.sessions + 1 < process.sessions]
            chosen = min((other for other in fewer if other.ready), key=lambda other: other.sessions, default=None)
            if chosen:
                chosen.sessions += 1
            return chosen

    def release(self, process: EncoderProcess) -> None:
        """Undo one `acquire`."""
        with self._lock:
            process.sessions -= 1
            self._used_at = time.monotonic()

    @property
    def settled(self) -> bool:
        """Whether all processes that were started are ready."""
        with self._lock:
            return all(process.ready for process in self._processes)

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        with self._lock:
            return [process.pid for process in self._processes if process.alive]

    def maintain(self) -> None:
        """Give back what has not been used for long, and replace those to `keep`; to be called now and then."""
        with self._lock:
            self._forget_ended()
            if len(self._processes) < self._least:
                self._start_spares()
            unused = not any(process.sessions for process in self._processes)
            if unused and time.monotonic() - self._used_at > RELEASE_AFTER_S:
                self._end_all_but(self._least)
                self.frames.trim()

    def close(self) -> None:
        """End the processes. Closing twice is fine."""
        with self._lock:
            self._closed = True
            self._end_all_but(0)
        self.frames.close()

    @property
    def _starting(self) -> bool:
        with self._lock:
            return any(process.alive and not process.ready for process in self._processes)

    def _prove(self) -> bool:
        self._proven = self._proven or any(process.ready for process in self._processes)
        return self._proven

    def _start_spares(self) -> None:
        sessions = sum(process.sessions for process in self._processes)
        ahead = max(self._least, 2 * sessions + 1)  # twice as many: sessions come in bursts
        wanted = 0 if self._closed else min(self._most, ahead)
        try:
            while len(self._processes) < wanted:
                self._processes.append(EncoderProcess(self.frames))
        except OSError as error:
            log.warning("an encoder process cannot be started: %s", error)

    def _forget_ended(self) -> None:
        for process in [process for process in self._processes if not process.alive]:
            log.warning("an encoder process ended; its sessions go on in others", extra={"pid": process.pid})
            self._processes.remove(process)
            process.close()

    def _end_all_but(self, count: int) -> None:
        while len(self._processes) > count:
            self._processes.pop().close()


def _burden(process: EncoderProcess) -> tuple[int, bool]:
    ready = process.ready
    return process.sessions + (0 if ready else SESSIONS_BEFORE_A_WAIT), not ready
