"""How fast this machine encodes frames of a size."""

import os
import time
from fractions import Fraction

import av
import numpy as np

from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.output.x264 import X264

FRAMES = 8


def encoding_rate(width: int, height: int) -> float:
    """Frames a second of `width` and `height` that the runtime's libx264 makes, of a picture with some detail."""
    detail = np.random.default_rng(0).integers(64, 192, (height * 3 // 2 // 16 + 1, width // 16 + 1), np.uint8)
    nv12 = np.ascontiguousarray(np.kron(detail, np.ones((16, 16), np.uint8))[: height * 3 // 2, :width])
    with av.open(os.devnull, "w", format="mp4") as container:
        encoder = X264(container, Picture(width, height, Fraction(25)), VideoOptions("x264"))
        begin = time.perf_counter()
        for index in range(FRAMES):
            encoder.encode(index, np.roll(nv12, index, axis=1))
        encoder.finish()
        return FRAMES / (time.perf_counter() - begin)
