"""Native code that takes minutes and hears no signal, run so that Ctrl-C comes through."""

import time
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")

TICK_INTERVAL_S = 15.0


def run_interruptibly(
    work: Callable[[], Result], tick: Callable[[float], None], interval_s: float = TICK_INTERVAL_S
) -> Result:
    """The result of `work`, run in a thread of its own; `tick` gets the seconds gone by, every `interval_s` of them.

    Ctrl-C and SIGTERM come through at once and leave the thread to end with the process.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # it is raised again where the result is awaited
            errors.append(error)

    start = time.monotonic()
    thread = Thread(target=run, daemon=True)
    thread.start()
    while True:
        thread.join(interval_s)
        if not thread.is_alive():
            break
        tick(time.monotonic() - start)
    if errors:
        raise errors[0]
    return results[0]
