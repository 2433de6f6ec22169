"""Several videos at a time: decoding and cropping let other threads run."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int, stop: Callable[[], None]) -> list[R]:
    """What `work` makes of the `items`, by so many threads; after an error or an interrupt `stop` is called."""
    if threads == 1:
        return list(map(work, items))
    with ThreadPoolExecutor(threads) as pool:
        try:  # an interrupt may come while the first are at work and the others are still handed out
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
