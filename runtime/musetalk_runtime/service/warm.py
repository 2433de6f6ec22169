"""The engines, loaded before anybody waits for them."""

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.model import SAMPLE_RATE
from musetalk_runtime.session import Session

SECONDS = 0.5


def warm_up(bundle: Bundle, avatar: Avatar) -> None:
    """Let `avatar` say half a second of noise to nobody; raises what a session would."""
    noise = np.random.default_rng(0).integers(-8000, 8000, int(SECONDS * SAMPLE_RATE), dtype=np.int16)
    with Session(bundle, avatar, [noise.astype("<i2").tobytes()]) as session:
        for _ in session.stream():
            pass
