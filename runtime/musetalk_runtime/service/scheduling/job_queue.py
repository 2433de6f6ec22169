"""The frames of all sessions that wait for the engines, and the batches made of them."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable

from musetalk_runtime.service.scheduling.frame_job import FrameJob, Owner

FILL_S = 0.01  # seconds that a frame may wait for others to fill a batch
URGENT_S = 0.25  # seconds before a frame is due, within which it waits for no others


class JobQueue:
    """The frames that wait, in order for each session. Not for several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._jobs: dict[int, deque[FrameJob]] = {}  # by the identity of their owner
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, jobs: Iterable[FrameJob]) -> None:
        """Let these wait, each behind those of its owner."""
        for job in jobs:
            self._jobs.setdefault(id(job.owner), deque()).append(job)
            self._count += 1

    def take(self, size: int) -> list[FrameJob]:
        """Take out the most urgent, with the next that can go with it: `size` at most.

        What needs no face goes by itself, since it would fill batches and is made at once.
        """
        heads = [(jobs[0].due, owner) for owner, jobs in self._jobs.items()]
        heapq.heapify(heads)
        batch: list[FrameJob] = []
        while heads and len(batch) < size:
            _, owner = heapq.heappop(heads)
            jobs = self._jobs[owner]
            jobs[0].limit()
            if batch and _kind(jobs[0]) != _kind(batch[0]):
                continue
            batch.append(jobs.popleft())
            if jobs:
                heapq.heappush(heads, (jobs[0].due, owner))
            else:
                del self._jobs[owner]
        self._count -= len(batch)
        return batch

    def drop(self, owner: Owner) -> list[FrameJob]:
        """Take out all of `owner`."""
        jobs = list(self._jobs.pop(id(owner), ()))
        self._count -= len(jobs)
        return jobs

    def clear(self) -> list[FrameJob]:
        """Take out all."""
        jobs = [job for waiting in self._jobs.values() for job in waiting]
        self._jobs.clear()
        self._count = 0
        return jobs

    def patience(self, size: int) -> float | None:
        """Seconds that a batch of `size` may wait to be filled: 0 or less if it is full, or a frame is urgent.

        None where nothing waits.
        """
        if not self._count:
            return None
        if self._count >= size:
            return 0.0
        heads = [jobs[0] for jobs in self._jobs.values()]
        now = self._now()
        oldest, due = min(job.submitted for job in heads), min(job.due for job in heads)
        return min(oldest + FILL_S - now, due - URGENT_S - now)


def _kind(job: FrameJob) -> tuple[Hashable, bool]:
    return job.owner.group, job.request.speaks
