import threading
import time
from collections.abc import Generator

import pytest

from musetalk_runtime.core.stage import Stage


def test_items_come_in_order_and_no_more_than_depth_ahead() -> None:
    made: list[int] = []

    def items() -> Generator[list[int], None, None]:
        for n in range(20):
            made.append(n)
            yield [n]

    stage = Stage(items(), 3, "test")
    taken = []
    for item in stage:
        taken.append(item)
        assert len(made) - len(taken) <= 4  # three wait, one is in the producer's hand
    assert taken == list(range(20))
    stage.close()


def test_take_gives_what_is_ready() -> None:
    stage = Stage(([n] for n in range(5)), 8, "test")
    while len(stage) < 5:
        time.sleep(0.001)
    assert stage.take(4) == [0, 1, 2, 3]
    assert stage.take(4) == [4]
    assert stage.take(4) == []
    stage.close()


def test_a_group_is_put_at_once_as_far_as_it_fits() -> None:
    stage = Stage((g for g in ([0, 1, 2, 3, 4, 5, 6], [7], [8, 9])), 3, "test")
    taken: list[list[int]] = []
    while group := stage.take(3):
        taken.append(group)
    assert [item for group in taken for item in group] == list(range(10))
    assert taken[0] == [0, 1, 2], "whoever waits is woken once the queue is full, or the group whole"
    stage.close()


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Generator[list[int], None, None]:
        yield [1]
        raise ValueError("broken")

    stage = Stage(items(), 4, "test")
    assert stage.take(1) == [1]
    with pytest.raises(ValueError, match="broken"):
        stage.take(1)
    stage.close()


def test_close_ends_the_thread_and_closes_the_items() -> None:
    closed = threading.Event()

    def items() -> Generator[list[int], None, None]:
        try:
            while True:
                yield [0]
        finally:
            closed.set()

    before = set(threading.enumerate())
    stage = Stage(items(), 2, "test")
    stage.take(1)
    stage.close()
    stage.close()
    assert closed.is_set()
    assert not set(threading.enumerate()) - before
    assert stage.take(1) == []
