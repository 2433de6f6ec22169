"""A mouth: lips, teeth and tongue."""

import numpy as np

from musetalk_drawn.figure.canvas import Canvas, Colour, Mask, overlap
from musetalk_drawn.figure.curve import Points, ellipse, shifted, stroke
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.mouth_shape import JAW_DROP, MouthShape, U
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.palette import INK, MOUTH, TEETH, TONGUE, WHITE, lips, lit, mix, shadow
from musetalk_drawn.figure.pose import Pose

MIDDLE = 84.0  # of the mouth: pixels below the eyes
TOOTH_GAPS = (-0.78, -0.55, -0.33, -0.115, 0.115, 0.33, 0.55, 0.78)  # between teeth, of the half width


def draw_mouth(canvas: Canvas, who: Identity, pose: Pose, state: MouthState) -> None:
    """Paint the mouth on a face."""
    _Mouth(canvas, who, pose, state).draw()


class _Mouth:
    def __init__(self, canvas: Canvas, who: Identity, pose: Pose, state: MouthState) -> None:
        self.canvas, self.who, self.pose, self.state = canvas, who, pose, state
        self.shape = MouthShape.of(who, state)
        self.red = mix(lips(who.skin), who.skin, 0.0 if who.feminine else 0.35)

    def draw(self) -> None:
        """Paint around, then the lips, then what is between them."""
        self._around()
        self._lips()
        if self.state.opening > 0.012:
            self._inside()
        self._edges()

    def at(self, points: Points) -> Points:
        """Points about the mouth's middle, in the picture."""
        x = points[:, 0]
        bulge = 5 + 9 * self.state.rounding - 12 * (x / 40) ** 2
        depth = 58 + bulge
        return self.pose.place(shifted(points, 0, MIDDLE), depth)

    def _around(self) -> None:
        skin, shape = self.who.skin, self.shape
        dark = shadow(skin, 0.8)
        below = float(shape.bottom.max())
        self.canvas.soft(self.at(ellipse((0, below + 6), (19, 4.5))), dark, 3.4, 0.55)
        self.canvas.soft(self.at(ellipse((0, float(shape.top.min()) - 9), (4, 8))), dark, 3.0, 0.3)
        for side in (-1, 1):
            corner = self.at(ellipse((side * (shape.half + 5), float(shape.centre[0]) + 1), (4.5, 5.5)))
            self.canvas.soft(corner, dark, 3.0, 0.5 + 0.2 * max(0.0, self.state.width))

    def _lips(self) -> None:
        shape, red, canvas = self.shape, self.red, self.canvas
        whole = self.at(shape.between(shape.top, shape.bottom, 3.0))
        canvas.soft(whole, mix(self.who.skin, red, 0.6), 1.6, 0.7)
        self.skin = canvas.fill(whole, red)
        upper = self.at(shape.between(shape.top, shape.centre * 0 + (shape.upper + shape.lower) / 2, 3.0))
        canvas.fill(upper, shadow(red, 0.42), 0.85, self.skin)
        glow = (shape.lower * 0.62 + shape.bottom * 0.38, shape.lower * 0.3 + shape.bottom * 0.7)
        shine = self.at(shape.between(*glow, inset=0.5))
        canvas.soft(shine, lit(red, 0.7), 2.2, 0.62, self.skin)
        low = self.at(shape.between(shape.lower * 0.15 + shape.bottom * 0.85, shape.bottom + 3))
        canvas.soft(low, shadow(red, 0.7), 2.2, 0.5, self.skin)
        self._upper_shine()

    def _upper_shine(self) -> None:
        shape = self.shape
        for side in (-1, 1):
            at = (side * shape.half * 0.28, float(shape.top[20] * 0.8 + shape.upper[20] * 0.2))
            self.canvas.soft(self.at(ellipse(at, (6, 1.3))), lit(self.red, 0.5), 1.5, 0.5, self.skin)

    def _inside(self) -> None:
        shape, canvas = self.shape, self.canvas
        gap = canvas.mask(self.at(shape.between(shape.upper, shape.lower)))
        canvas.paint(gap, MOUTH)
        deep = ellipse((0, 4 + 8 * self.state.jaw), (shape.half * 0.55, 3 + 8 * self.state.opening))
        canvas.soft(self.at(deep), (40, 10, 18), 4, 0.75, gap)
        jaw = JAW_DROP * self.state.jaw
        if self.state.tip < 0.5:
            self._tongue(gap, jaw)
        self._teeth(gap, -18.0, 1.8 + 0.9 * self.state.lift - 5.5 * self.state.rounding, 1)
        self._teeth(gap, 16.0 + jaw, 2.8 + jaw + 3.5 * self.state.rounding, -1)
        if self.state.tip >= 0.5:
            self._tip(gap)
        rim = shape.between(shape.upper - 8, shape.upper + 2.2)
        canvas.soft(self.at(rim), (70, 22, 30), 1.8, 0.55, gap)

    def _teeth(self, gap: Mask, root: float, edge: float, down: int) -> None:
        half = min(self.shape.half * 0.93, 34.0 * self.who.mouth)
        x = U * half
        curve = edge - down * (2.4 if down > 0 else 1.2) * U**2
        row = np.concatenate([np.stack([x, np.full_like(x, root)], axis=1), np.stack([x, curve], axis=1)[::-1]])
        white: Colour = TEETH if down > 0 else mix(TEETH, MOUTH, 0.1)
        teeth = overlap(self.canvas.mask(self.at(row)), gap)
        self.canvas.paint(teeth, white)
        for cut in TOOTH_GAPS:
            line = stroke([(cut * half, root), (cut * half, edge - down * 0.3)], [0.7, 1.0])
            self.canvas.fill(self.at(line), (150, 110, 104), 0.36, teeth)
        for side in (-1, 1):
            self.canvas.soft(self.at(ellipse((side * half, edge - 6 * down), (half * 0.3, 13))), MOUTH, 4, 0.75, teeth)

    def _tongue(self, gap: Mask, jaw: float) -> None:
        up = self.state.tongue
        half = self.shape.half * (0.76 - 0.28 * up)
        top = 4.5 + 0.5 * jaw - up * (4.5 + 0.5 * jaw)
        body = ellipse((0, top + 15), (half, 15))
        tongue = overlap(self.canvas.fill(self.at(body), shadow(TONGUE, 0.3), 1.0, gap), gap)
        self.canvas.soft(self.at(ellipse((0, top + 5), (half * 0.5, 3))), lit(TONGUE, 0.35), 2.5, 0.8, tongue)
        groove = stroke([(0, top + 3), (0, top + 24)], [1, 4])
        self.canvas.soft(self.at(groove), shadow(TONGUE, 0.9), 1.8, 0.5, tongue)

    def _tip(self, gap: Mask) -> None:
        half, strength = self.shape.half * 0.55, self.state.tip
        low = float(self.shape.lower.max())
        body = ellipse((0, low - 0.5), (half, 5.2))
        tongue = overlap(self.canvas.fill(self.at(body), TONGUE, strength, gap), gap)
        self.canvas.soft(self.at(ellipse((0, low - 2), (half * 0.6, 1.4))), lit(TONGUE, 0.6), 1.4, 0.8, tongue)

    def _edges(self) -> None:
        shape, state = self.shape, self.state
        x = U * shape.half
        shut = max(0.0, 1 - state.opening / 0.06)
        dark = mix(shadow(self.red), INK, 0.55)
        line = stroke(np.stack([x, (shape.upper + shape.lower) / 2], axis=1), [0.5, 1.5, 1.9, 1.5, 0.5])
        self.canvas.fill(self.at(line), dark, 0.85 * shut)
        if state.opening > 0.012:
            edge = stroke(np.stack([x, shape.upper], axis=1), [0.4, 1.3, 1.3, 0.4])
            self.canvas.fill(self.at(edge), dark, 0.5)
            wet = stroke(np.stack([x, shape.lower + 1.0], axis=1)[9:-9], [0, 1.2, 0])
            self.canvas.fill(self.at(wet), WHITE, 0.16)
