"""The frames that wait for the engines, and the batches made of them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.timetable import Timetable
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.service.scheduling.frame_job import FrameJob, PendingFrames
from musetalk_runtime.service.scheduling.job_queue import FILL_S, URGENT_S, JobQueue


def jobs(owner: Any, indices: range, now: float = 100.0) -> list[FrameJob]:
    avatar: Any = SimpleNamespace(has_face=[True])
    frames = [SpeechFrame(k, np.zeros(0, np.float32), 1.0, np.zeros((1, 0), np.float32)) for k in indices]
    requests = [FrameRequest(avatar, 0, frame) for frame in frames]
    return [FrameJob(request, owner, PendingFrames(1), 0, lambda: now) for request in requests]


def owner(group: Any, timetable: Timetable) -> Any:
    return SimpleNamespace(group=group, timetable=timetable, under_way=0)


def queue(*waiting: FrameJob, now: float = 100.0) -> JobQueue:
    made = JobQueue(lambda: now)
    made.add(waiting)
    return made


def indices(batch: list[FrameJob], *owners: Any) -> list[tuple[int, int]]:
    return [(owners.index(job.owner), job.request.speech.index) for job in batch]


def test_the_most_urgent_goes_first_and_sessions_take_turns() -> None:
    ahead, behind, large = (
        owner("small", Timetable(100.0)), owner("small", Timetable(99.94)), owner("large", Timetable(99.9)),
    )  # fmt: skip
    waiting = queue(*jobs(ahead, range(3)), *jobs(behind, range(3)), *jobs(large, range(1)))
    assert indices(waiting.take(4), ahead, behind, large) == [(2, 0)]
    assert indices(waiting.take(4), ahead, behind) == [(1, 0), (1, 1), (0, 0), (1, 2)]
    assert indices(waiting.take(4), ahead, behind) == [(0, 1), (0, 2)]
    assert (waiting.take(4), len(waiting)) == ([], 0)


def test_what_has_waited_long_is_not_put_off_by_the_urgent() -> None:
    patient, hasty = owner("", Timetable(200.0)), owner("", Timetable(101.5))
    waiting = queue(*jobs(patient, range(2)), *jobs(hasty, range(4), now=102.0))
    assert indices(waiting.take(4), patient, hasty) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_mouth_that_was_closed_costs_no_face() -> None:
    session = owner("", Timetable(closed=2))
    waiting = queue(*jobs(session, range(4)))
    batches = [waiting.take(4), waiting.take(4)]
    assert [[(job.request.speech.index, job.request.speaks) for job in batch] for batch in batches] == [
        [(0, True), (1, True)],
        [(2, False), (3, False)],
    ]


def test_a_session_that_leaves_takes_its_frames_with_it() -> None:
    one, other = owner("", Timetable()), owner("", Timetable())
    waiting = queue(*jobs(one, range(3)), *jobs(other, range(2)))
    assert indices(waiting.drop(one), one) == [(0, 0), (0, 1), (0, 2)]
    assert (len(waiting), waiting.drop(one)) == (2, [])
    assert indices(waiting.clear(), one, other) == [(1, 0), (1, 1)]
    assert len(waiting) == 0


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [
        (200.0, 100.0, FILL_S),
        (200.0, 100.004, FILL_S - 0.004),
        (100.0 + URGENT_S + 0.001, 100.0, 0.001),
        (100.0, 100.0, -URGENT_S),
    ],
    ids=["far ahead", "waits already", "soon due", "due"],
)
def test_a_batch_waits_for_more_only_while_nothing_is_urgent(due: float, now: float, expected: float) -> None:
    waiting = queue(*jobs(owner("", Timetable(due)), range(2)), now=now)
    assert waiting.patience(4) == pytest.approx(expected)
    assert waiting.patience(2) == 0.0, "it is full"
