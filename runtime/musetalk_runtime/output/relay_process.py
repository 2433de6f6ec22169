"""A push of a stream to a media server, by a process of its own, which can be ended whatever the server does."""

import os
import select
import threading
import time
from types import TracebackType
from typing import NoReturn

from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.core.worker import start_worker, worker_command
from musetalk_runtime.output.relay import CONNECTED, STARTED
from musetalk_runtime.output.url import url_container, without_password

COMMAND = worker_command("musetalk_runtime.output.relay")
START_TIMEOUT_S = 30.0  # seconds in which the process has to start
STALL_TIMEOUT_S = 10.0  # seconds in which a server has to take something, and the end of the stream
STOPPING_TIMEOUT_S = 2.0  # the same, once the stream is to stop
POLL_INTERVAL_S = 0.05


class RelayProcess:
    """Takes fragmented MP4 by `write`, which a process of its own sends to `url`.

    Leaving the ``with`` block ends the stream; after an error it only ends the process. Raises InvalidArgument for what
    is no URL, and OutputError where it cannot be opened or takes nothing for 10 s; once `stopping` is set it is given
    up without one.
    """

    def __init__(self, url: str, stopping: threading.Event) -> None:
        url_container(url)
        self._url = without_password(url)
        self._stopping = stopping
        self._first = f"{url}\n".encode()
        self._given_up = False
        self._said = b""
        self._started_at: float | None = None
        self._process = start_worker(COMMAND)
        self._spawned_at = time.monotonic()
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._pipe = self._process.stdin
        os.set_blocking(self._pipe.fileno(), False)

    def __enter__(self) -> "RelayProcess":
        try:
            self.write(self._first)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            try:
                self._pipe.close()
                if kind is None or kind is GeneratorExit:
                    self._wait_for_end()
            finally:
                self._process.kill()

    def write(self, data: bytes) -> None:
        """Send `data`; all of it has been taken afterwards, or the stream is given up."""
        view, began = memoryview(data), time.monotonic()
        while view and not self._given_up:
            if self._process.poll() is not None:
                raise self._failure()
            if select.select([], [self._pipe], [], POLL_INTERVAL_S)[1]:
                try:
                    view = view[os.write(self._pipe.fileno(), view) :]
                    began = time.monotonic()
                    continue
                except BrokenPipeError:  # it is about to end, and says why
                    time.sleep(POLL_INTERVAL_S)
            self._check_time(began)
        self._check_connection()

    def _wait_for_end(self) -> None:
        began = time.monotonic()
        while self._process.poll() is None and not self._given_up:
            time.sleep(POLL_INTERVAL_S)
            self._check_time(began)
        if self._process.returncode:
            raise self._failure()

    def _check_connection(self) -> None:
        """A stream of few bytes fills no pipe, however long the server says nothing."""
        self._listen()
        if not (self._answered or self._given_up or self._stopping.is_set()):
            self._check_time(self._spawned_at)

    def _check_time(self, began: float) -> None:
        """Give up where nothing has been taken since `began`; the server's time begins when the process has started."""
        self._listen()
        if self._started_at is None:
            if time.monotonic() - self._spawned_at > START_TIMEOUT_S:
                self._give_up(f"the relay did not start in {START_TIMEOUT_S:g} s")
            return
        waited = time.monotonic() - max(began, self._started_at)
        if self._stopping.is_set():
            self._given_up = waited > STOPPING_TIMEOUT_S
        elif waited > STALL_TIMEOUT_S:
            self._give_up(f"the server took nothing for {STALL_TIMEOUT_S:g} s")

    def _listen(self) -> None:
        assert self._process.stdout  # noqa: S101 - it is a pipe
        if not self._answered and select.select([self._process.stdout], [], [], 0)[0]:
            self._said += os.read(self._process.stdout.fileno(), 4096)
        if self._started_at is None and self._said:
            self._started_at = time.monotonic()

    @property
    def _answered(self) -> bool:
        """Whether the process has said more than that it has started."""
        return self._said.count(b"\n") > 1

    def _give_up(self, reason: str) -> NoReturn:
        self._process.kill()
        raise OutputError(f"{self._url}: {reason}")

    def _failure(self) -> OutputError:
        """What the process said before it ended."""
        assert self._process.stdout  # noqa: S101 - it is a pipe
        said = (self._said + self._process.stdout.read()).decode("utf-8", "replace").split("\n")
        reason = next((line for line in said if line not in {"", STARTED, CONNECTED}), "")
        reason = reason or f"the relay ended with status {self._process.returncode}"
        return OutputError(f"{self._url}: cannot be {'written' if CONNECTED in said else 'opened'}: {reason}")
