"""Hair, behind the head and over the forehead."""

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.canvas import Canvas, Mask, outside
from musetalk_drawn.figure.curve import Points, shifted, smooth, stroke
from musetalk_drawn.figure.hair_shape import HairShape
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.palette import INK, lit, mix, shadow
from musetalk_drawn.figure.pose import Pose, surface

LOCKS = 11  # over the forehead
DOWN = np.linspace(-0.05, 1.05, 9)  # along a lock
Line = npt.NDArray[np.float64]


class Hair:
    """The hair of one head on one canvas."""

    def __init__(self, canvas: Canvas, who: Identity, pose: Pose) -> None:
        self.canvas, self.who, self.pose = canvas, who, pose
        self.shape = HairShape.of(who.hair_style)
        self.dark = mix(shadow(who.hair, 0.9), INK, 0.22)

    def draw_back(self) -> None:
        """Paint what is behind the head."""
        if len(self.shape.bun):
            bun = self.canvas.fill(self.pose.place(self.shape.bun, -10), self.who.hair)
            self._shine(self.pose.place(self.shape.bun * 0.55 + (0, -84), -10), bun)
        if len(self.shape.back):
            back = self.canvas.fill(self._hanging(self.shape.back), self.dark)
            for side in (-1, 1):
                for x in (84, 104, 118):
                    lock = smooth(
                        [(side * x * 0.8, -60), (side * x, 30), (side * (x - 4), 120), (side * x, 220)], False
                    )
                    self.canvas.soft(self._hanging(stroke(lock, [3, 8, 7, 3])), self.who.hair, 3, 0.6, back)

    def _hanging(self, points: Points) -> Points:
        """Behind the head above, on the shoulders below, where it moves less."""
        moved = self.pose.place(points, -30)
        still = shifted(points, 256 + 0.4 * self.pose.x, 248 + 0.4 * self.pose.y)
        share = np.clip((points[:, 1] - 60) / 240, 0, 0.8)[:, None]
        return moved + (still - moved) * share

    def draw_front(self, face: Mask) -> None:
        """Paint what lies over the forehead, and its shadow on `face`."""
        outer, line = self.shape.outer, self.shape.line
        depth = np.concatenate([np.full(len(outer), 4.0), surface(*line.T)[::-1] + 5])
        edge = np.concatenate([outer, line[::-1]])
        points = self.pose.place(edge, depth)
        self.canvas.soft(shifted(points, -3 * self.pose.light, 9), shadow(self.who.skin, 1.1), 5, 0.6, face)
        hair = self.canvas.fill(points, self.who.hair)
        self._locks(hair)
        away = shifted(points, self.pose.light * 30, -14)
        self.canvas.paint(outside(hair, self.canvas.blurred(away, 16)), self.dark, 0.6)
        middle = 0.5 - 0.24 * self.pose.light
        band = self._points(middle + np.linspace(-0.25, 0.25, 32), 0.32)
        self.canvas.soft(stroke(band, [2, 13, 12, 2]), lit(self.who.hair, 0.45), 5, 0.55, hair)

    def _locks(self, hair: Mask) -> None:
        for k in range(LOCKS):
            t = (k + 0.5) / LOCKS
            colour = self.dark if k % 2 else lit(self.who.hair, 0.22)
            lock = self._points(t + (0.5 - t) * 0.45 * (1 - DOWN), DOWN)
            self.canvas.soft(stroke(lock, [2, 5, 6, 1]), colour, 1.6, 0.34, hair)

    def _points(self, t: Line, s: Line | float) -> Points:
        """Points a share `t` from ear to ear and `s` from the hair's edge to the forehead, in the picture."""
        a, b = (_along(line, t) for line in (self.shape.outer, self.shape.line))
        down = np.broadcast_to(s, t.shape)
        return self.pose.place(a + (b - a) * down[:, None], 4 + 55 * down)

    def _shine(self, points: Points, clip: Mask) -> None:
        self.canvas.soft(shifted(points, self.pose.light * 10, -6), lit(self.who.hair, 0.3), 8, 0.7, clip)


def _along(line: Points, share: Line) -> Points:
    """The points a share of the way along a line, by the count of its points."""
    at = np.clip(share, 0, 1) * (len(line) - 1)
    return np.stack([np.interp(at, np.arange(len(line)), column) for column in line.T], axis=1)
