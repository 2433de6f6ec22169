"""The warm-up of the engines, which loads them and measures what a frame costs."""

import time
from collections.abc import Iterator

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.frame_rate import generation_rate
from musetalk_runtime.service.scheduling.capacity import Cost
from musetalk_runtime.service.session.speech_queue import SPEECH_SAMPLES
from musetalk_runtime.session import Session

FPS = 25
WARM_FRAMES = 4  # generated before the measurement
MEASURED_FRAMES = 12  # more give the same within 3%, and nobody can watch meanwhile
MAX_SECONDS = 4.0  # of a measurement on a slow machine


def warm_up(bundle: Bundle, avatar: Avatar) -> Cost:
    """Run a short live session of noise with `avatar`, and measure what a frame costs; raises what a session would.

    Nothing else may run in this process meanwhile, since all of its CPU time is counted.
    """
    with Session(bundle, avatar, _noise(), FPS) as session:
        marks: list[tuple[int, float]] = []  # frames and CPU seconds: when all is loaded, when it runs evenly
        deadline = float("inf")
        for _ in session.stream():
            if len(marks) < 2 and session.frames_made >= (0, WARM_FRAMES)[len(marks)]:
                marks.append((session.frames_made, time.process_time()))
                deadline = time.monotonic() + MAX_SECONDS
            if session.frames_made >= WARM_FRAMES + MEASURED_FRAMES or time.monotonic() > deadline:
                break
        frames, spent = session.frames_made - marks[-1][0], time.process_time() - marks[-1][1]
        stages = {stage: times["p50_ms"] / 1e3 for stage, times in session.timings.to_json().items()}
        hardware = session.encoder != "x264"
    return Cost(
        cpu=spent / max(1, frames),
        generator=stages.get("generate", 1 / generation_rate(bundle)),
        encoder=stages["encode"] if hardware else 0.0,
    )


def _noise() -> Iterator[bytes]:
    """Noise without end, in pieces as a live session gets them."""
    random = np.random.default_rng(0)
    while True:
        yield random.integers(-8000, 8000, SPEECH_SAMPLES, dtype=np.int16).astype("<i2").tobytes()
