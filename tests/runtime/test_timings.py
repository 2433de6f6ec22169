"""What the stages took."""

import pytest

from musetalk_runtime.core.timings import Timings


def test_times_are_of_a_frame_and_the_first_call_in_all() -> None:
    timings = Timings()
    timings.record("unet", 8.0, 4)
    timings.record("unet", 3.0)
    timings.record("open", 12.5, 0)
    timings.record("open", 99.0, 0)
    assert timings.first_ms == {"unet": 8.0, "open": 12.5}
    assert timings.to_json() == {"unet": {"p50_ms": 2.0, "p99_ms": pytest.approx(2.96)}}


def test_a_block_and_a_function_are_timed_unless_they_raise() -> None:
    now = [100.0]
    timings = Timings(clock=lambda: now[0])
    with timings.measure("block", 2):
        now[0] += 0.25
    assert timings.timed("sum", sum)([1, 2]) == 3
    with pytest.raises(ValueError, match="not this one"), timings.measure("wrong"):
        raise ValueError("not this one")
    assert timings.first_ms.keys() == timings.to_json().keys() == {"block", "sum"}
    assert timings.first_ms == {"block": 250, "sum": 0}
    assert timings.first_at_ms == {"block": 250, "sum": 250}
    assert timings.to_json()["block"]["p50_ms"] == 125
