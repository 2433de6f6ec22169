"""Worker processes that an event loop talks with, under each loop that a service may run on."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import pytest

from musetalk_runtime.core.worker_process import WorkerProcess

LOOPS = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
ECHO = (sys.executable, "-c", "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)")
FAILS = (sys.executable, "-c", "print('why'); raise SystemExit(3)")
Run = Callable[[Callable[[], Coroutine[None, None, None]]], None]
forks: list[int] = []
os.register_at_fork(before=lambda: forks.append(os.getpid()))


@pytest.fixture(params=LOOPS)
def in_loop(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function in an event loop of one kind."""

    def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
        loop = LOOPS[request.param]()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 60))
        finally:
            loop.close()

    return run


def test_it_answers_until_its_input_ends(in_loop: Run) -> None:
    async def main() -> None:
        process = await WorkerProcess.start(ECHO)
        await process.send(b"one\n")
        assert await process.output.readline() == b"ONE\n"
        assert process.status is None
        await process.send(b"two\n" * 50_000)  # more than a pipe holds
        process.close_input()
        assert await process.output.readexactly(200_000) == b"TWO\n" * 50_000
        assert await process.wait() == process.status == 0
        await process.end()

    in_loop(main)


def test_it_leaves_no_descriptor_open(in_loop: Run) -> None:
    async def main() -> None:
        counts = []
        for number in range(3):  # uvloop opens one of its own with the first
            process = await WorkerProcess.start(ECHO)
            if number % 2:
                process.close_input()
                await process.wait()
            await process.end()
            await process.end()
            await asyncio.sleep(0.05)  # transports close in the loop's next turns
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
        assert counts[0] == counts[1] == counts[2]

    in_loop(main)


def test_what_it_said_is_read_after_it_was_killed(in_loop: Run) -> None:
    async def main() -> None:
        process = await WorkerProcess.start(ECHO)
        await process.send(b"said\n")
        assert await process.output.readexactly(1) == b"S"
        process.kill()
        assert await process.wait() == process.status == -SIGKILL
        assert await process.output.read() == b"AID\n"
        await process.end()

    in_loop(main)


def test_one_that_has_ended_takes_no_more(in_loop: Run) -> None:
    async def main() -> None:
        process = await WorkerProcess.start(FAILS)
        assert await process.output.read() == b"why\n"
        assert await process.wait() == 3
        with pytest.raises(ConnectionError):
            await process.send(b"more\n")
        await process.end()
        assert process.status == 3

    in_loop(main)


def test_it_starts_without_a_copy_of_this_process(in_loop: Run) -> None:
    """A copy runs Python, and hangs where a lock was held by a thread that it has not."""

    async def main() -> None:
        forks.clear()
        process = await WorkerProcess.start(ECHO)
        assert forks == []
        assert Path(f"/proc/{process.pid}").exists()
        await process.end()

    in_loop(main)


def test_a_start_that_is_cancelled_leaves_no_process(in_loop: Run) -> None:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")

    async def main() -> None:
        start = asyncio.ensure_future(WorkerProcess.start(ECHO))
        await asyncio.sleep(0)  # it runs until it has to wait
        assert children.read_text()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not children.read_text()

    in_loop(main)


def test_a_program_that_is_not_there_is_an_error(in_loop: Run) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await WorkerProcess.start(("/nowhere/at-all",))

    in_loop(main)
