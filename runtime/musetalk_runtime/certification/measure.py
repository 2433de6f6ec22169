"""Times of plans on this machine, and what follows from them."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from musetalk_runtime.certification.check import Profile, RunnablePlan

MIN_MEASURED_S = 1.0  # of runs, for each figure
MIN_RUNS = 3
MAX_LIVE_AUDIO_MS = 8.0  # of a 40 ms frame, for hearing live speech again at every frame
MIN_BATCH_GAIN = 1.05  # frames a second: a larger batch that gains less only adds latency


def plan_ms(plan: RunnablePlan, profiles: Sequence[Profile], precision: str) -> list[float]:
    """Median milliseconds of a run at each profile, from arrays on the host to arrays on the host."""
    random = np.random.default_rng(0)  # a GPU is quicker at zeros
    kind = np.float16 if precision == "fp16" else np.float32
    times: list[float] = []
    for index, shapes in enumerate(profiles):
        inputs = {name: random.standard_normal(shape).astype(kind) for name, shape in shapes.items()}
        times.append(median_ms(lambda index=index, inputs=inputs: plan.run(index, inputs)))  # type: ignore[misc]
    return times


def median_ms(run: Callable[[], Any]) -> float:
    """Median milliseconds that `run` takes, the first time apart."""
    run()
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < MIN_MEASURED_S:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(median(times) * 1e3, 3)


def affordable_context(audio_ms: Mapping[float, float]) -> float:
    """The longest context, of milliseconds by seconds, that takes at most MAX_LIVE_AUDIO_MS, else the shortest."""
    return float(max((seconds for seconds, ms in audio_ms.items() if ms <= MAX_LIVE_AUDIO_MS), default=min(audio_ms)))


def paying_batches(batch_ms: Mapping[int, float]) -> dict[int, float]:
    """Of milliseconds by batch size: the smallest, and each larger one that makes enough more frames a second."""
    paying: dict[int, float] = {}
    for size, ms in sorted(batch_ms.items()):
        if not paying or size / ms >= MIN_BATCH_GAIN * max(size / ms for size, ms in paying.items()):
            paying[size] = ms
    return paying
