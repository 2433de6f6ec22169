"""The latency of turns."""

from typing import Any

import numpy as np
import pytest

from musetalk_runtime.audio.speech_piece import SpeechPiece, joined, silence
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.session.turn_timer import TurnTimer


class Told:
    """Stands in for the events."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []

    def publish(self, name: str, **content: Any) -> None:
        assert name == "turn"
        self.turns.append(content)


def loud(seconds: float) -> SpeechPiece:
    count = round(seconds * 16_000)
    return SpeechPiece(np.full(count, 8000, np.int16), np.zeros((2, 3 * count), np.int16))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def timer(told: Told, clock: list[float]) -> TurnTimer:
    return TurnTimer(Metrics(), told, lambda: clock[0])  # type: ignore[arg-type]


def test_live_speech_is_timed_from_its_first_loud_piece_to_its_frame(
    timer: TurnTimer, told: Told, clock: list[float]
) -> None:
    timer.hear(silence(320), 1.0)
    timer.hear(loud(0.02), 1.02)
    clock[0] += 0.15
    timer.hear(loud(0.02), 1.04)  # the same turn
    timer.made(1.0)
    assert told.turns == []
    timer.made(1.04)
    timer.made(1.08)
    assert told.turns == [{"what": "speech", "at": 1.02, "seconds": 0.15}]


def test_a_frame_that_leaves_later_is_timed_until_then(timer: TurnTimer, told: Told, clock: list[float]) -> None:
    timer.hear(loud(0.02), 1.0)
    clock[0] += 0.15
    timer.made(1.0, early=0.05)
    assert told.turns == [{"what": "speech", "at": 1.0, "seconds": 0.2}]


def test_a_pause_makes_a_new_turn_and_a_short_one_does_not(timer: TurnTimer, told: Told) -> None:
    for at in (1.0, 1.4, 3.0):
        timer.hear(loud(0.2), at)
    timer.made(9.0)
    assert [turn["at"] for turn in told.turns] == [1.0, 3.0]


def test_the_silence_that_a_clip_begins_with_does_not_count(timer: TurnTimer, told: Told, clock: list[float]) -> None:
    timer.hear(joined([silence(8000), loud(1.0)]), 2.0)
    clock[0] += 0.7
    timer.made(2.52)
    assert told.turns == [{"what": "speech", "at": 2.5, "seconds": 0.2}]


def test_an_interruption_is_timed_to_the_closed_mouth_and_what_it_cut_is_not(
    timer: TurnTimer, told: Told, clock: list[float]
) -> None:
    timer.hear(loud(1.0), 2.0)
    timer.interrupt(1.5)
    clock[0] += 0.1
    timer.made(2.2)
    timer.hear(loud(1.0), 2.3)  # the next turn, however soon
    timer.made(2.4)
    assert [(turn["what"], turn["seconds"]) for turn in told.turns] == [("interruption", 0.1), ("speech", 0.0)]


def test_somebody_speaks_until_a_moment_after_the_last_loud_sample(timer: TurnTimer) -> None:
    assert not timer.speaks(0.0)
    timer.hear(joined([silence(1600), loud(0.5), silence(8000)]), 1.0)
    assert timer.speaks(0.9)  # it is known what comes
    assert timer.speaks(1.6 + 0.2)
    assert not timer.speaks(1.6 + 0.4)
    timer.hear(loud(0.5), 3.0)
    timer.interrupt(3.2)
    assert not timer.speaks(3.1)
