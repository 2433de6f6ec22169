"""Draw what not everyone has: freckles and glasses."""

import numpy as np

from musetalk_drawn.figure.canvas import Canvas, Mask
from musetalk_drawn.figure.curve import ellipse, smooth, stroke
from musetalk_drawn.figure.eyes import GAP
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.palette import WHITE, mix, shadow
from musetalk_drawn.figure.pose import Pose

FRAME = (52.0, 44.0, 52.0)


def draw_freckles(canvas: Canvas, who: Identity, pose: Pose, face: Mask) -> None:
    """Paint freckles over nose and cheeks."""
    if who.freckles <= 0:
        return
    rng = np.random.default_rng(7)
    for x, y in rng.normal((0, 0), (1, 1), (22, 2)):
        side = 1 if x > 0 else -1
        dot = pose.place(ellipse((side * 26 + x * 26, 32 + y * 8), (1.5, 1.3), 10))
        canvas.fill(dot, shadow(who.skin, 1.1), 0.45 * who.freckles, face)


def draw_glasses(canvas: Canvas, who: Identity, pose: Pose) -> None:
    """Paint round glasses."""
    if not who.glasses:
        return
    colour = mix(FRAME, who.clothes, 0.3)
    middle = GAP * who.eye_gap
    for side in (-1, 1):
        ring = ellipse((side * middle, 1), (34, 31), 60)
        lens = pose.place(ring, 78)
        canvas.fill(lens, WHITE, 0.07)
        canvas.fill(pose.place(stroke(np.concatenate([ring, ring[:2]]), [3.6, 3.6]), 78), colour)
        arm = stroke([(side * (middle + 33), -4), (side * 98, -8)], [3.2, 2.4])
        canvas.fill(pose.place(arm, [78, 5, 5, 78]), colour)
    bridge = smooth([(-middle + 33, 0), (0, -7), (middle - 33, 0)], closed=False)
    canvas.fill(pose.place(stroke(bridge, [3.2, 3.2]), 92), colour)
