"""Times of the stages of the chain, and the memory of the process."""

import resource
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

MAX_KEPT_FRAMES = 10_000  # frames of each stage


class Timings:
    """Milliseconds a frame, by stage; the last `kept` frames count. Each stage belongs to one thread at a time.

    ``first_ms`` maps a stage to the milliseconds its first call took in all, however many frames it was for, and
    ``first_at_ms`` to when that was over, from the making of this on. `heard` is told of each call: its stage,
    milliseconds and frames. `clock` gives seconds.
    """

    def __init__(
        self,
        heard: Callable[[str, float, int], None] | None = None,
        kept: int = MAX_KEPT_FRAMES,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._heard = heard
        self._clock = clock
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=kept))
        self._began = clock()
        self.first_ms: dict[str, float] = {}
        self.first_at_ms: dict[str, float] = {}

    def record(self, stage: str, ms: float, frames: int = 1) -> None:
        """Note that `frames` frames took `ms` milliseconds together; 0 is for what is done once, for all of them."""
        if stage not in self.first_ms:
            self.first_ms[stage] = round(ms, 3)
            self.first_at_ms[stage] = round((self._clock() - self._began) * 1e3, 3)
        if frames:
            self._stages[stage].extend([ms / frames] * frames)
        if self._heard:
            self._heard(stage, ms, frames)

    @contextmanager
    def measure(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Time the block as the work of `frames` frames. See `record`."""
        start = self._clock()
        yield
        self.record(stage, (self._clock() - start) * 1e3, frames)

    def timed(self, stage: str, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, each call timed as one frame's work."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.measure(stage):
                return function(*args, **kwargs)

        return call

    def to_json(self) -> dict[str, Any]:
        """``{stage: {"p50_ms": float, "p99_ms": float}}``"""
        return {
            stage: {f"p{p}_ms": round(float(np.percentile(list(times), p)), 3) for p in (50, 99)}
            for stage, times in sorted(self._stages.items())
        }


def peak_memory_mb() -> float:
    """Largest resident size this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def memory_mb() -> float:
    """Resident size of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
