"""The process in which a service synthesizes speech."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import MachineError, MuseTalkEdgeError
from musetalk_runtime.core.worker import worker_command
from musetalk_runtime.core.worker_process import WorkerProcess
from musetalk_runtime.tts.synthesizer import HIBARI

START_TIMEOUT_S = 60.0  # seconds in which an engine has to be loaded
SENTENCE_TIMEOUT_S = 30.0  # seconds in which each piece of a sentence's speech has to come
log = logging.getLogger(__name__)


class SynthesizerProcess:
    """The engine `name`, in a process that starts when it is first needed. For one event loop, and any of its tasks.

    A sentence of which no piece comes for `timeout` seconds ends the process, and the next sentence starts another.
    """

    def __init__(self, name: str = HIBARI, timeout: float = SENTENCE_TIMEOUT_S) -> None:
        self.name = name
        self._timeout = timeout
        self._process: WorkerProcess | None = None
        self._rate = 0
        self._turn = asyncio.Lock()  # one sentence at a time

    async def synthesize(self, sentence: str) -> AsyncGenerator[tuple[Floats, int], None]:
        """The speech of `sentence` in pieces, each float32 ``[n]`` and its rate in Hz.

        Raises MachineError where the engine cannot be started, breaks down or takes too long, and MuseTalkEdgeError for
        a sentence that it refuses.
        """
        async with self._engine() as process:
            await process.send(json.dumps({"text": sentence}).encode() + b"\n")
            while (piece := await self._answer(process)) is not None:
                yield piece, self._rate

    async def start(self) -> None:
        """Load the engine now, and not with the first sentence; raises MachineError."""
        async with self._engine():
            pass

    async def close(self) -> None:
        """End the process. Twice is fine."""
        await self._kill()

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[WorkerProcess]:
        """The process, for one sentence; it is ended where that was not answered to its end."""
        async with self._turn:
            answered = False
            try:
                if self._process and self._process.status is not None:
                    await self._kill()
                yield self._process or await self._start()
                answered = True
            except Refused as error:
                answered = True
                raise MuseTalkEdgeError(str(error)) from None
            except asyncio.TimeoutError:
                raise MachineError("the speech synthesizer took too long") from None
            except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
                log.error("the speech synthesizer broke down: %s", error)
                raise MachineError("the speech synthesizer broke down: see the log") from None
            finally:
                if not answered:
                    await self._kill()

    async def _start(self) -> WorkerProcess:
        command = (*worker_command("musetalk_runtime.tts.worker"), self.name)
        process = self._process = await WorkerProcess.start(command)
        said = await asyncio.wait_for(self._line(process), START_TIMEOUT_S)
        if "error" in said:
            await self._kill()
            raise MachineError(str(said["error"]))
        self._rate = int(said["sample_rate"])
        return process

    async def _answer(self, process: WorkerProcess) -> Floats | None:
        """The next piece; None at the sentence's end. Raises Refused."""
        said = await asyncio.wait_for(self._line(process), self._timeout)
        if "error" in said:
            raise Refused(str(said["error"]))
        if "samples" not in said:
            return None
        data = await asyncio.wait_for(process.output.readexactly(2 * int(said["samples"])), self._timeout)
        return np.asarray(np.frombuffer(data, "<i2") / np.float32(32768), np.float32)

    async def _line(self, process: WorkerProcess) -> dict[str, Any]:
        line = await process.output.readline()
        if not line:
            raise EOFError("it ended by itself")
        said: dict[str, Any] = json.loads(line)
        return said

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process:
            await process.end()


class Refused(Exception):
    """The engine does not say this sentence."""
