"""The warm-up of the engines, which loads them and measures what a frame costs."""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame_rate import generation_rate
from musetalk_runtime.output.video import VideoOptions
from musetalk_runtime.service.scheduling.capacity import Cost
from musetalk_runtime.service.scheduling.round_robin import RoundRobinRenderer
from musetalk_runtime.service.session.speech_queue import SPEECH_SAMPLES
from musetalk_runtime.session import Session
from musetalk_runtime.session_hooks import SessionHooks

FPS = 25
WARM_FRAMES = 4  # generated before the measurement
RUNS, RUN_FRAMES = 3, 4  # measured one after the other: the best counts, for other work only adds to what is seen
MAX_SECONDS = 4.0  # of a measurement on a slow machine


class Cancelled(Exception):
    """The measurement was cancelled."""


def warm_up(bundle: Bundle, avatar: Avatar, cancelled: Callable[[], bool] = lambda: False) -> Cost:
    """Run a short live session of noise with `avatar`, and measure what a frame costs.

    First all renderers are opened that an engine worker takes, which then finds what a GPU was long in making.
    Nothing else may run in this process meanwhile, since all of its CPU time is counted. Other processes may: CPU time
    grows little beside them. Raises what a session would, and Cancelled soon after `cancelled()`.
    """
    engines = bundle.engines
    RoundRobinRenderer(lambda: engines.renderer(avatar, Timings()), engines.parallel_renderers).close()
    generate_s: list[float] = []
    encode_s: list[float] = []

    def listen(stage: str, ms: float, frames: int) -> None:
        if stage in (into := {"generate": generate_s, "encode": encode_s}) and frames:
            into[stage].append(ms / 1e3 / frames)

    with Session(bundle, avatar, _noise(), FPS, SessionHooks(timings=Timings(listen))) as session:
        marks: list[tuple[int, float]] = []  # frames and CPU seconds: when all is loaded, and after each run
        deadline = float("inf")
        for _ in session.stream(video=VideoOptions(threads=1)):  # as each of many encodes
            if cancelled():
                raise Cancelled
            if session.frames_made >= WARM_FRAMES + len(marks) * RUN_FRAMES or time.monotonic() > deadline:
                marks.append((session.frames_made, time.process_time()))
                deadline = min(deadline, time.monotonic() + MAX_SECONDS)
            if len(marks) > RUNS or (len(marks) > 1 and time.monotonic() > deadline):
                break
        hardware = session.encoder != "x264"
    cpu = min((now - before) / max(1, frames - counted) for (counted, before), (frames, now) in pairwise(marks))
    return Cost(
        cpu=cpu,
        # The CPU's generator takes no longer than all its CPU time, whatever else takes the CPU from it meanwhile.
        generator=min(*generate_s, cpu) if generate_s else 1 / generation_rate(bundle),
        encoder=statistics.median(encode_s) if hardware else 0.0,
    )


def _noise() -> Iterator[bytes]:
    """Noise without end, in pieces as a live session gets them."""
    random = np.random.default_rng(0)
    while True:
        yield random.integers(-8000, 8000, SPEECH_SAMPLES, dtype=np.int16).astype("<i2").tobytes()
