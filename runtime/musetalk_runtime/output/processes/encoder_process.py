"""One encoder process, seen from the service."""

import os
import socket
import subprocess
import time
from contextlib import suppress

from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.system_memory import kill_first
from musetalk_runtime.core.worker import worker_command
from musetalk_runtime.output.processes.shared_frames import SharedFrames

COMMAND = worker_command("musetalk_runtime.output.processes.main")
FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1"}  # NumPy would start one a core, for work that there is none of
READY = b"r"
START_TIMEOUT_S = 10.0  # seconds in which it has to be ready
STALL_TIMEOUT_S = 10.0  # seconds in which it has to answer, once it has started


class EncoderProcess(Closable):
    """A process that encodes the frames of several sessions, which lie in `frames`. Attributes: ``sessions``, ``pid``.

    It ends when the service does, however that ends. Raises OSError where it cannot be started.
    """

    def __init__(self, frames: SharedFrames) -> None:
        self.sessions = 0
        self._ready = self._failed = False
        self._began = time.monotonic()
        self._control, other = socket.socketpair()
        with other:
            descriptors = other.fileno(), frames.descriptor
            try:
                self._process = subprocess.Popen(
                    [*COMMAND, *map(str, descriptors), str(frames.size)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, **FEW_THREADS},
                    start_new_session=True,  # what ends the service from a terminal does not end it first
                )
            except BaseException:
                self._control.close()
                raise
        self.pid = self._process.pid
        kill_first(self.pid)
        self._control.setblocking(False)

    @property
    def alive(self) -> bool:
        """Whether it runs, and has started in time."""
        late = not self._has_started() and time.monotonic() - self._began > START_TIMEOUT_S
        return not self._failed and not late and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has started, so that a session need not wait for it."""
        return self._has_started() and self.alive

    def connect(self) -> socket.socket:
        """A socket for one more session; raises OSError if the process has ended.

        While the process may still be starting, the first answer may take as long as a start.
        """
        starting = not self.ready
        ours, other = socket.socketpair()
        with other:
            try:
                socket.send_fds(self._control, [b"s"], [other.fileno()])
            except BaseException:
                ours.close()
                raise
        ours.settimeout(STALL_TIMEOUT_S + (START_TIMEOUT_S if starting else 0))
        return ours

    def kill(self) -> None:
        """End it at once, if it has not ended by itself; its sessions go on in others."""
        self._failed = True
        self._process.kill()

    def _has_started(self) -> bool:
        """Whether it has said so; it may have done that long before anybody asks."""
        if not self._ready:
            with suppress(OSError):  # nothing is there yet, or it has ended
                self._ready = self._control.recv(1) == READY or self._ready
        return self._ready

    def close(self) -> None:
        """End it and wait for that. Closing twice is fine."""
        self._control.close()
        self._process.kill()
        self._process.wait()
