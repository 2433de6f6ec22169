"""The preparation of an uploaded avatar, in a process of its own."""

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

from musetalk_runtime.core.worker import worker_command
from musetalk_runtime.core.worker_process import WorkerProcess
from musetalk_runtime.prepare.worker import Request
from musetalk_runtime.service.errors import ServiceError

WORKER = worker_command("musetalk_runtime.prepare.worker")
BROKE_DOWN = ("failed", "the preparation broke down: try another file")
REASONS: dict[int, tuple[str, str]] = {
    signal.SIGKILL: (
        "killed",
        "the preparation was killed, perhaps because this machine ran out of memory: a smaller file may help",
    ),
    signal.SIGXCPU: ("too_slow", "it takes too long: send a shorter video"),
    signal.SIGBUS: ("no_storage", "there is no room for this avatar: the disk is full"),  # a file in memory
}
log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many frames are done, and of how many."""


async def prepare(request: Request, seconds: float, progress: Progress, worker: Sequence[str] = WORKER) -> list[str]:
    """Make the avatar that `request` says within `seconds`, by the command `worker`; cancelled, it kills the process.

    Gives what is to be told of the file that was sent. Raises ServiceError with the reason.
    """
    process = await WorkerProcess.start(worker)
    try:
        return await asyncio.wait_for(_follow(process, request, progress), seconds)
    except asyncio.TimeoutError:
        raise ServiceError(422, *REASONS[signal.SIGXCPU]) from None
    finally:
        await process.end()


async def _follow(process: WorkerProcess, request: Request, progress: Progress) -> list[str]:
    with suppress(ConnectionError):  # it has ended already: its exit says why
        await process.send(json.dumps(asdict(request)).encode() + b"\n")
    try:
        async for line in process.output:
            said = json.loads(line)
            if "report" in said:
                return [str(warning) for warning in said["report"]["warnings"]]
            if "error" in said:
                code, message, detail = (str(said["error"][name]) for name in ("code", "message", "detail"))
                log.warning("a preparation failed: %s", message if code != "failed" else detail)
                raise ServiceError(422, code, message)
            stage, done, total = said["progress"]
            progress(str(stage), int(done), int(total))
    except (ValueError, LookupError, TypeError) as error:  # from a process that is no longer itself
        log.error("a preparation talks nonsense: %s", error)
        raise ServiceError(422, *BROKE_DOWN) from None
    status = -await process.wait()
    log.error("a preparation ended by itself: signal %d", status)
    raise ServiceError(422, *REASONS.get(status, BROKE_DOWN))
