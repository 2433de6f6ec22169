"""Draw what is behind the person."""

import numpy as np

from musetalk_drawn.figure.canvas import SIDE, Canvas
from musetalk_drawn.figure.curve import ellipse
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.palette import lit, mix


def draw_room(canvas: Canvas, who: Identity, seed: int) -> None:
    """Paint the whole canvas: a soft gradient with a few large, blurred shapes."""
    rng = np.random.default_rng([seed, 0x20])
    high, low = who.room
    share = np.linspace(0, 1, canvas.size, dtype=np.float32)[:, None]
    for plane, a, b in zip(canvas.planes, high, low, strict=True):
        plane[:] = a + (b - a) * share
    for k in range(4):
        at = (float(rng.uniform(0, SIDE)), float(rng.uniform(0, SIDE * 0.8)))
        radius = float(rng.uniform(40, 130))
        colour = lit(high, 0.5) if k % 2 else mix(low, (60, 60, 90), 0.15)
        canvas.soft(ellipse(at, (radius, radius)), colour, float(rng.uniform(4, 26)), 0.4)
    canvas.soft(ellipse((256, 220), (180, 190)), lit(high, 0.6), 60, 0.5)
