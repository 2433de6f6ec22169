"""Eyes, with their lids, lashes and brows, and glasses."""

import numpy as np

from musetalk_drawn.figure.canvas import Canvas
from musetalk_drawn.figure.curve import Points, ellipse, smooth, stroke
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.palette import INK, WHITE, lit, mix, shadow
from musetalk_drawn.figure.pose import Pose

EYE_DISTANCE = 43.0  # from the middle of the face to that of an eye
HALF_WIDTH = 23.5  # of an eye
FRAME = (52.0, 44.0, 52.0)  # the colour of glasses
U = np.linspace(-1, 1, 25)  # -1 the inner corner, 1 the outer


def draw_eyes(canvas: Canvas, who: Identity, pose: Pose) -> None:
    """Paint both eyes and both brows."""
    for side in (-1, 1):
        _Eye(canvas, who, pose, side).draw()


def draw_glasses(canvas: Canvas, who: Identity, pose: Pose) -> None:
    """Paint round glasses."""
    if not who.glasses:
        return
    colour = mix(FRAME, who.clothes, 0.3)
    middle = EYE_DISTANCE * who.eye_gap
    for side in (-1, 1):
        ring = ellipse((side * middle, 1), (34, 31), 60)
        lens = pose.place(ring, 78)
        canvas.fill(lens, WHITE, 0.07)
        canvas.fill(pose.place(stroke(np.concatenate([ring, ring[:2]]), [3.6, 3.6]), 78), colour)
        arm = stroke([(side * (middle + 33), -4), (side * 98, -8)], [3.2, 2.4])
        canvas.fill(pose.place(arm, [78, 5, 5, 78]), colour)
    bridge = smooth([(-middle + 33, 0), (0, -7), (middle - 33, 0)], closed=False)
    canvas.fill(pose.place(stroke(bridge, [3.2, 3.2]), 92), colour)


class _Eye:
    def __init__(self, canvas: Canvas, who: Identity, pose: Pose, side: int) -> None:
        self.canvas, self.who, self.pose, self.side = canvas, who, pose, side
        self.size = who.eye_size
        tilt = -(who.eye_tilt + 0.05) * HALF_WIDTH * U
        x, low = U * HALF_WIDTH, 9.2 * (1 - U**2) ** 0.8 + tilt
        high = -15.4 * (1 - np.abs(U + 0.12) ** 2.2 * 0.78 - 0.12 * (U + 1) / 2).clip(0) * (1 - U**4) ** 0.6 + tilt
        shut = min(1.0, pose.blink)
        self.x, self.open = x, high
        self.high, self.low = high + (low * 0.86 - high) * shut, low

    def at(self, points: Points, depth: float = 0.0) -> Points:
        """Points about the eye's middle, x towards the temple."""
        middle = EYE_DISTANCE * self.who.eye_gap
        mine = (points * self.size + (middle, 0)) * (self.side, 1)
        return self.pose.place(mine, 50 + depth - 16 * (points[:, 0] / HALF_WIDTH * 0.5 + 0.5))

    def line(self, y: Points, x: Points | None = None) -> Points:
        """A line over the eye's width."""
        return np.stack([self.x if x is None else x, y], axis=1)

    def draw(self) -> None:
        """Paint the hollow, the ball, the lids, the brow."""
        dark = shadow(self.who.skin, 0.85)
        self.canvas.soft(self.at(ellipse((-3, -9), (24, 13))), dark, 7, 0.4)
        self.canvas.soft(self.at(ellipse((0, 15), (19, 3))), dark, 4, 0.28)
        if self.pose.blink < 0.97:
            self._ball()
        self._lids()
        self._brow()

    def _ball(self) -> None:
        almond = self.canvas.mask(self.at(np.concatenate([self.line(self.high), self.line(self.low)[::-1]])))
        self.canvas.paint(almond, (246, 242, 240))
        x, y = self.side * 4.5 * self.pose.gaze[0] - 0.6, 3 * self.pose.gaze[1] - 2.4
        eye, dark = self.who.eyes, mix(self.who.eyes, INK, 0.62)
        self.canvas.fill(self.at(ellipse((x, y), (12.6, 12.6))), dark, 1, almond)
        self.canvas.fill(self.at(ellipse((x, y), (11.3, 11.3))), eye, 1, almond)
        self.canvas.soft(self.at(ellipse((x, y - 9), (12, 7))), dark, 3, 0.8, almond)
        self.canvas.soft(self.at(ellipse((x, y + 5), (6, 3.4))), lit(eye, 0.55), 2, 0.8, almond)
        self.canvas.fill(self.at(ellipse((x, y), (5.6, 5.6))), (22, 16, 18), 1, almond)
        roof = np.concatenate([self.line(self.high - 6), self.line(self.high + 3.5)[::-1]])
        self.canvas.soft(self.at(roof), (92, 76, 92), 2.2, 0.6, almond)
        glint = self.side * -3.6 * (1 if self.pose.light > 0 else -1) * -1
        self.canvas.fill(self.at(ellipse((x + glint, y - 4.2), (3.2, 3.2))), WHITE, 0.95, almond)
        self.canvas.fill(self.at(ellipse((x - glint, y + 4.4), (1.4, 1.4))), WHITE, 0.6, almond)

    def _lids(self) -> None:
        ink = mix(INK, self.who.hair, 0.25)
        outer = np.array([[HALF_WIDTH + 4, float(self.high[-1]) - 2.2 * self.who.lashes]])
        lash = np.concatenate([self.line(self.high - 0.6), outer])
        weight = 2.0 + 1.8 * self.who.lashes
        self.canvas.fill(self.at(stroke(lash, [0.8, weight * 0.8, weight, weight, 0.3]), 2), ink, 0.95)
        under = stroke(self.line(self.low + 0.4), [0.3, 0.8, 1.3, 1.0])
        self.canvas.fill(self.at(under), shadow(self.who.skin, 1.4), 0.75)
        crease = smooth(self.line(self.open * 1.1 - 4.5 + 3.5 * self.pose.blink)[2:-1:4], closed=False)
        self.canvas.fill(self.at(stroke(crease, [0.3, 1.7, 1.7, 0.4])), shadow(self.who.skin, 1.25), 0.6)

    def _brow(self) -> None:
        rise = 5 * self.pose.brows - 2 * (self.who.brows - 1)
        inner = -29.5 - 1.2 * rise + 4 * max(0.0, -self.pose.brows)
        arch = [(-21, inner), (-8, -34 - rise), (8, -36.5 - rise), (26, -29.5 - 0.8 * rise)]
        weight = 6.0 * self.who.brows
        hair = mix(self.who.hair, INK, 0.32)
        shape = stroke(smooth(arch, closed=False), [weight * 0.6, weight, weight * 0.8, 1.0])
        self.canvas.soft(self.at(shape, 3), hair, 1.3, 0.35)
        self.canvas.fill(self.at(shape, 3), hair, 0.85)
