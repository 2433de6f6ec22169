"""A session's stream, sent on to a media server."""

import asyncio
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from musetalk_runtime.output.relay import CONNECTED
from musetalk_runtime.service.delivery.reader import Reader
from musetalk_runtime.service.errors import StreamFailed
from musetalk_runtime.session import PUSH_LEAD_S

if TYPE_CHECKING:
    from musetalk_runtime.service.session.live_session import Broadcast

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a reconnection, by how many have failed one after another
STEADY = 30.0  # seconds after which a connection has not failed
STALLED = 10.0  # seconds that a server may take nothing
COMMAND = (sys.executable, "-m", "musetalk_runtime.output.relay")
log = logging.getLogger(__name__)

State = Literal["connecting", "connected", "retrying", "ended", "failed"]


class PushFailed(Exception):
    """The server cannot be reached, or took no more."""


class Push:
    """Sends what `session` makes to `url`, called `name`, in a process of its own, until the session ends.

    It begins at the newest keyframe, with time 0, and so it does again when the server is gone: five times, then it is
    given up. The session goes on, and is told of it by ``push`` events. For the event loop.
    """

    def __init__(self, session: "Broadcast", name: str, url: str) -> None:
        self.name = name
        self.state: State = "connecting"
        self._session = session
        self._url = url.replace("{id}", session.id)
        self._reason = ""
        self._task = asyncio.create_task(self._run())

    async def ended(self) -> None:
        """Wait for its end, which comes soon after the session's."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._send()
            except PushFailed as error:
                failures = 0 if time.monotonic() - began > STEADY else failures
                if failures >= len(WAITS) or not await self._wait(WAITS[failures], str(error)):
                    self._move("failed", str(error))
                    return
                failures += 1
            else:
                self._move("ended")
                return

    async def _send(self) -> None:
        """One connection, to the end of the stream; raises PushFailed."""
        reader = Reader(self._session.window)
        with suppress(StreamFailed):
            if not await reader.join():
                return
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
        listening = asyncio.create_task(self._listen(process))
        try:
            await self._feed(process, reader)
        except asyncio.TimeoutError:
            raise PushFailed(f"the server took nothing for {STALLED:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await listening
        if process.returncode:
            raise PushFailed(self._reason or f"the relay ended with status {process.returncode}")

    async def _feed(self, process: Process, reader: Reader) -> None:
        assert process.stdin  # noqa: S101 - it is a pipe
        with suppress(ConnectionError, StreamFailed):  # the first is told by the exit status
            process.stdin.write(f"{self._url}\n".encode())
            while (data := await reader.read()) is not None:
                await self._pace(reader.time)
                process.stdin.write(data)
                await asyncio.wait_for(process.stdin.drain(), STALLED)
        process.stdin.close()
        await asyncio.wait_for(process.wait(), STALLED)

    async def _pace(self, seconds: float) -> None:
        """Wait until playback is near: a server wants a stream at its own pace."""
        self._session.touch()
        while self._session.running and (ahead := seconds - PUSH_LEAD_S - self._session.clock.now()) > 0:
            await asyncio.sleep(min(ahead, 0.1))

    async def _wait(self, seconds: float, message: str) -> bool:
        """Wait before a reconnection; whether there is still something to send."""
        if self._session.running:
            self._move("retrying", message)
        until = time.monotonic() + seconds
        while self._session.running and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.1))
        return self._session.running

    async def _listen(self, process: Process) -> None:
        assert process.stdout  # noqa: S101 - it is a pipe
        async for line in process.stdout:
            self._reason = line.decode("utf-8", "replace").strip()
            if self._reason == CONNECTED:
                self._reason = ""
                self._move("connected")

    def _move(self, state: State, message: str = "") -> None:
        self.state = state
        if message:
            log.warning("push to %s: %s: %s", self.name, state, message)
        self._session.notices.post("push", to=self.name, state=state, **({"message": message} if message else {}))
