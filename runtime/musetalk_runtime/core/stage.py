"""A stage of the chain: an iterator in a thread of its own, joined to the next by a bounded queue."""

import atexit
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

EXIT_TIMEOUT_S = 2.0  # seconds for a thread to end when the process does


class Stage(Generic[T]):
    """Runs `groups` of items in a thread, at most `depth` items ahead of whoever takes them.

    A group's items are ready at once, and wake whoever waits for them once. An exception in `groups` comes out of
    `take`, after the items made before it. `close` ends the thread and waits for it; a thread that waits inside
    `groups` must be woken by other means first. Closing twice is fine.
    """

    def __init__(self, groups: Generator[Sequence[T], None, None], depth: int, name: str) -> None:
        self._groups = groups
        self._depth = depth
        self._queue: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._done = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _open.add(self)

    def __iter__(self) -> Iterator[T]:
        while items := self.take(1):
            yield items[0]

    def __len__(self) -> int:
        """Items that wait to be taken."""
        return len(self._queue)

    def take(self, limit: int) -> list[T]:
        """Wait for one item and give it with those that are ready, at most `limit`; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._done or self._stopped)
            if self._stopped:
                return []
            taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
            self._changed.notify_all()
            if not taken and self._error:
                error, self._error = self._error, None
                raise error
            return taken

    def stop(self) -> None:
        """Make `take` give nothing more and the thread end, without waiting for it. Safe from any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> None:
        """Stop, and wait until the thread has ended and `groups` is closed, or for `timeout` seconds."""
        self.stop()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            for group in self._groups:
                if not self._put(group):
                    break
        except BaseException as error:
            self._error = error
        finally:
            self._groups.close()
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _put(self, group: Sequence[T]) -> bool:
        with self._changed:
            put = 0
            while put < len(group) and not self._stopped:
                self._changed.wait_for(lambda: len(self._queue) < self._depth or self._stopped)
                fitting = group[put : put + self._depth - len(self._queue)]
                self._queue.extend(fitting)
                put += len(fitting)
                self._changed.notify_all()
            return not self._stopped


_open: WeakSet[Stage[Any]] = WeakSet()


@atexit.register
def _close_all() -> None:
    """End the threads of stages left open: killed with the process inside an engine or a codec, they would abort it."""
    stages = list(_open)
    for stage in stages:
        stage.stop()
    for stage in stages:
        stage.close(EXIT_TIMEOUT_S)
