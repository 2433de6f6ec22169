"""The head without eyes, mouth and hair: neck, ears, face and nose, and the light on them."""

import numpy as np

from musetalk_drawn.figure.canvas import Canvas, Mask, outside
from musetalk_drawn.figure.curve import Points, ellipse, mirrored, shifted, smooth, stroke
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.mouth_shape import MouthShape
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.palette import lips, lit, mix, shadow
from musetalk_drawn.figure.pose import Pose

CHIN_DROP = 11.0  # pixels of the chin at jaw 1
CHIN = 134.0  # below the eyes
TOP = -120.0
NOSE = 50.0
OVER_EARS = ("bob", "long", "wave")


def chin_y(who: Identity) -> float:
    """How far the chin is below the eyes at rest."""
    return MIDDLE_CHIN + (CHIN - MIDDLE_CHIN) * who.chin


MIDDLE_CHIN = 60.0  # from here down the face is stretched to its chin


def outline(who: Identity, jaw: float) -> Points:
    """The face's edge about the point between the eyes."""
    wide, low = who.face, who.jaw
    half = [
        (0, TOP),
        (50, -113),
        (84, -82),
        (97 * wide, -34),
        (97 * wide, 10),
        (91 * wide * (0.5 + 0.5 * low), 52),
        (76 * low, 90),
        (52 * low, 117),
        (25 * low, 131),
        (0, 134),
    ]
    points = mirrored(half)
    below = np.clip((points[:, 1] - MIDDLE_CHIN) / (CHIN - MIDDLE_CHIN), 0, 1)
    points[:, 1] += below * ((CHIN - MIDDLE_CHIN) * (who.chin - 1)) + np.sqrt(below) * CHIN_DROP * jaw
    return smooth(points)


class Head:
    """One head on one canvas."""

    def __init__(self, canvas: Canvas, who: Identity, pose: Pose, state: MouthState) -> None:
        self.canvas, self.who, self.pose, self.state = canvas, who, pose, state
        self.edge = pose.place(outline(who, state.jaw), 0)

    def draw_neck(self) -> None:
        """Paint the neck, which follows the head only in part."""
        skin, still = self.who.skin, np.array([256.0, 248.0])
        move = self.pose.place(np.array([[0.0, 118.0]]), 0)[0] - still - (0, 118)
        wide = 43 if self.who.feminine else 52
        half = [(-wide, 80), (-wide + 1, 140), (-wide - 4, 172), (-wide - 22, 200)]
        points = np.array([*half, (-40, 280), (40, 280), *[(-x, y) for x, y in half[::-1]]], np.float64)
        follow = np.clip((200 - points[:, 1]) / 120, 0, 1)[:, None]
        neck = self.canvas.fill(points + still + move * follow, skin)
        self.canvas.paint(neck, shadow(skin), 0.35)
        cast = outline(self.who, 0) * (0.86, 1) + (6 * -self.pose.light, 24)
        self.canvas.soft(self.pose.place(cast, 0), shadow(skin, 1.15), 7, 0.75, neck)
        for side in (-1, 1):
            bone = smooth([(side * 10, 207), (side * 40, 198), (side * 74, 194)], closed=False)
            self.canvas.soft(stroke(bone + still, [5, 6, 1]), shadow(skin, 0.9), 2.5, 0.5, neck)

    def draw_ears(self) -> None:
        """Paint both ears, where hair does not hide them."""
        skin = self.who.skin
        if self.who.hair_style in OVER_EARS:
            return
        for side in (-1, 1):
            x = 97 * self.who.face
            ear = smooth([(x - 8, -14), (x + 6, -22), (x + 17, -10), (x + 13, 14), (x + 4, 33), (x - 10, 26)])
            mask = self.canvas.fill(self.pose.place(ear * (side, 1), -8), mix(skin, shadow(skin), 0.35))
            inner = smooth([(x, -8), (x + 8, -12), (x + 10, 0), (x + 4, 18)], closed=False)
            line = self.pose.place(stroke(inner, [2, 5, 4, 2]) * (side, 1), -8)
            self.canvas.soft(line, shadow(skin, 1.1), 2, 0.7, mask)

    def draw_face(self) -> Mask:
        """Paint the face and its light; gives its mask."""
        skin, light = self.who.skin, self.pose.light
        face = self.canvas.fill(self.edge, skin)
        near = self.canvas.blurred(shifted(self.edge, light * 26, -12), 17)
        self.canvas.paint(outside(face, near), shadow(skin), 0.85)
        self._glow((0, -58), (58, 26), 18, 0.3, face)
        self._glow((light * 22, CHIN - 12 + 8 * self.state.jaw), (15, 7), 6, 0.32, face)
        for side in (-1, 1):
            self._glow((side * 56 + light * 6, 22), (20, 12), 9, 0.34, face)
            cheek = self.pose.place(ellipse((side * 60, 42), (22, 15)))
            self.canvas.soft(cheek, mix(skin, lips(skin), 0.75), 10, 0.65 * self.who.blush, face)
        self._stubble(face)
        self._folds(face)
        return face

    def _glow(
        self, at: tuple[float, float], radii: tuple[float, float], sigma: float, alpha: float, face: Mask
    ) -> None:
        self.canvas.soft(self.pose.place(ellipse(at, radii)), lit(self.who.skin, 0.55), sigma, alpha, face)

    def _stubble(self, face: Mask) -> None:
        if self.who.stubble > 0:
            jaw = outline(self.who, self.state.jaw)
            beard = jaw[jaw[:, 1] > 34]
            middle = smooth([(64, 58), (36, 62), (0, 60), (-36, 62), (-64, 58)], closed=False)
            order = beard[np.argsort(beard[:, 0])]
            area = self.pose.place(np.concatenate([order, middle]), 20)
            self.canvas.soft(area, mix(self.who.skin, self.who.hair, 0.5), 7, 0.45 * self.who.stubble, face)

    def _folds(self, face: Mask) -> None:
        shape = MouthShape.of(self.who, self.state)
        strength = 0.22 + 0.28 * max(0.0, self.state.width) + 0.12 * self.state.opening
        for side in (-1, 1):
            end = max(shape.half + 13, 38.0)
            line = smooth([(side * 21, 50), (side * 33, 60), (side * end, 78), (side * (end + 1), 88)], closed=False)
            fold = self.pose.place(stroke(line, [1, 4, 3.5, 0.5]))
            self.canvas.soft(fold, shadow(self.who.skin, 1.0), 2.6, strength, face)

    def draw_freckles(self, face: Mask) -> None:
        """Paint freckles over nose and cheeks of those who have them."""
        if self.who.freckles <= 0:
            return
        rng = np.random.default_rng(7)
        for x, y in rng.normal((0, 0), (1, 1), (22, 2)):
            side = 1 if x > 0 else -1
            dot = self.pose.place(ellipse((side * 26 + x * 26, 32 + y * 8), (1.5, 1.3), 10))
            self.canvas.fill(dot, shadow(self.who.skin, 1.1), 0.45 * self.who.freckles, face)

    def draw_nose(self) -> None:
        """Paint the nose: its shadow side, its wings, its tip."""
        skin, wide, away = self.who.skin, self.who.nose, -np.sign(self.pose.light)
        dark = shadow(skin)
        depth = np.array([56.0, 74, 90, 88, 76, 66])
        bridge = np.array([(9, -8), (8, 16), (11, 38), (15 * wide, 52), (4, 60), (3, 10)]) * (away, 1)
        self.canvas.soft(self.pose.place(bridge, depth), dark, 5, 0.5)
        base = smooth([(-15 * wide, 51), (-8, 57), (0, 61), (8, 57), (15 * wide, 51), (8, 64), (0, 67), (-8, 64)])
        self.canvas.soft(self.pose.place(base, 80), dark, 3, 0.62)
        self.canvas.soft(self._tip(ellipse((0, 43), (9 * wide, 9))), lit(skin, 0.3), 5, 0.55)
        for side in (-1, 1):
            wing = smooth([(15.5, 41), (19.5, 48), (17.5, 55), (11, 57)], closed=False) * (side * wide, 1)
            self.canvas.soft(self.pose.place(stroke(wing, [0.5, 2.4, 2.4, 1]), 76), shadow(skin, 1.15), 0.9, 0.7)
            hole = smooth([(4, 57.5), (8.5, 54.6), (12, 56.4), (8, 58.8)]) * (side * wide, 1)
            self.canvas.soft(self._tip(hole), shadow(skin, 1.75), 0.8, 0.8)
        self.canvas.soft(self._tip(stroke([(0, -4), (0, 34)], [4, 4])), lit(skin, 0.6), 3.5, 0.34)
        self.canvas.soft(self._tip(ellipse((self.pose.light * 3, 41), (4.4, 3.2))), lit(skin, 0.85), 2, 0.6)

    def _tip(self, points: Points) -> Points:
        depth = 62 + 30 * np.clip((points[:, 1] + 5) / 50, 0, 1)
        return self.pose.place(points, depth)
