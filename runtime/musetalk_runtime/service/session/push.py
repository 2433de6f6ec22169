"""The relay of a session's stream to a media server, and its reconnections."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from musetalk_runtime.core.worker_process import WorkerProcess
from musetalk_runtime.output.relay import CONNECTED
from musetalk_runtime.output.relay_process import COMMAND, START_TIMEOUT_S
from musetalk_runtime.service.delivery.event_stream import EventStream
from musetalk_runtime.service.delivery.reader import Reader
from musetalk_runtime.service.delivery.window import Window
from musetalk_runtime.service.errors import StreamFailed
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.push_targets import PushTarget
from musetalk_runtime.session import PUSH_LEAD_S

STEADY_S = 30.0  # seconds after which a connection counts as a success
log = logging.getLogger(__name__)

PushState = Literal["connecting", "connected", "retrying", "ended", "failed"]


class PushFailed(Exception):
    """The server cannot be reached, or took no more."""


class Push:
    """Sends the stream in `window` to `target`, by a process of its own, until the stream ends.

    It begins at the newest keyframe, with time 0, and keeps the pace of `clock`; `on_read` is called for each fragment.
    When the server is gone it begins again, after each of the target's waits in turn; then it gives up. The session
    goes on. `events` tell of every change of ``state``. For the event loop.
    """

    def __init__(
        self,
        target: PushTarget,
        session_id: str,
        window: Window,
        events: EventStream,
        clock: PlaybackClock,
        on_read: Callable[[], None],
    ) -> None:
        self.name = target.name
        self.state: PushState = "connecting"
        self._target = target
        self._url = target.url.replace("{id}", session_id)
        self._window, self._events, self._clock, self._on_read = window, events, clock, on_read
        self._reason = ""
        self._task = asyncio.create_task(self._run())

    async def wait_ended(self) -> None:
        """Wait for its end, which comes soon after the stream's."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures, waits = 0, self._target.retry_waits
        while True:
            began = time.monotonic()
            try:
                await self.send()
            except PushFailed as error:
                failures = 0 if time.monotonic() - began > STEADY_S else failures
                if failures >= len(waits) or not await self._wait(waits[failures], str(error)):
                    self._move("failed", str(error))
                    return
                failures += 1
            else:
                self._move("ended")
                return

    async def send(self) -> None:
        """One connection, to the end of the stream; raises PushFailed."""
        process = await WorkerProcess.start(COMMAND)
        replies: list[asyncio.Task[None]] = []
        try:
            await self._wait_for_start(process)
            reader = Reader(self._window)
            with suppress(StreamFailed):
                if not await reader.join():
                    return
            self._reason = ""
            replies.append(asyncio.create_task(self._read_replies(process)))
            await self._write(process, reader)
        except asyncio.TimeoutError:
            raise PushFailed(f"the server took nothing for {self._target.stall_timeout:g} s") from None
        finally:
            process.kill()
            await asyncio.gather(*replies)
            await process.end()
        if process.status:
            raise PushFailed(self._reason or f"the relay ended with status {process.status}")

    async def _wait_for_start(self, process: WorkerProcess) -> None:
        """The server's time begins when the process has started, however long that takes."""
        try:
            await asyncio.wait_for(process.output.readline(), START_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise PushFailed(f"the relay did not start in {START_TIMEOUT_S:g} s") from None

    async def _write(self, process: WorkerProcess, reader: Reader) -> None:
        with suppress(ConnectionError, StreamFailed):  # the first is told by the exit status
            await process.send(f"{self._url}\n".encode())
            while (data := await reader.read()) is not None:
                await self._pace(reader.time)
                await asyncio.wait_for(process.send(data), self._target.stall_timeout)
        process.close_input()
        await asyncio.wait_for(process.wait(), self._target.stall_timeout)

    async def _pace(self, seconds: float) -> None:
        """Wait until playback is near: a server expects a stream in real time."""
        self._on_read()
        while not self._window.ended and (ahead := seconds - PUSH_LEAD_S - self._clock.now()) > 0:
            await asyncio.sleep(min(ahead, 0.1))

    async def _wait(self, seconds: float, message: str) -> bool:
        """Wait before a reconnection; whether there is still something to send."""
        if not self._window.ended:
            self._move("retrying", message)
        until = time.monotonic() + seconds
        while not self._window.ended and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.1))
        return not self._window.ended

    async def _read_replies(self, process: WorkerProcess) -> None:
        """The first must come in time: a stream of few bytes fills no pipe, however long the server says nothing."""
        timeout: float | None = self._target.stall_timeout
        try:
            while line := await asyncio.wait_for(process.output.readline(), timeout):
                timeout = None
                self._reason = line.decode("utf-8", "replace").strip()
                if self._reason == CONNECTED:
                    self._reason = ""
                    self._move("connected")
        except asyncio.TimeoutError:
            self._reason = f"the server said nothing for {timeout:g} s"
            process.kill()

    def _move(self, state: PushState, message: str = "") -> None:
        self.state = state
        if message:
            log.warning("push to %s: %s: %s", self.name, state, message)
        self._events.publish("push", to=self.name, state=state, **({"message": message} if message else {}))
