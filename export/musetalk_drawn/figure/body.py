"""Shoulders and clothes."""

import numpy as np

from musetalk_drawn.figure.canvas import Canvas, outside
from musetalk_drawn.figure.curve import Points, mirrored, shifted, smooth, stroke
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.palette import lit, mix, shadow
from musetalk_drawn.figure.pose import Pose

SHADE = (0.68, 0.66, 0.74)  # of the clothes in shadow: a factor for each of R, G, B


def draw_body(canvas: Canvas, who: Identity, pose: Pose) -> None:
    """Paint the clothes over the neck; they sway a fifth as far as the head."""
    sway = (256 + 0.2 * pose.x, 248 + 0.2 * pose.y)
    dark = mix(who.clothes, tuple(c * s for c, s in zip(who.clothes, SHADE, strict=True)), 1.0)  # type: ignore[arg-type]
    wide = 1.0 if who.feminine else 1.13
    neckline = _neckline(who.clothes_style) * (1.0 if who.feminine else 1.16, 1)
    left = [(-55, 194), (-96 * wide, 207), (-142 * wide, 226), (-172 * wide, 262), (-184 * wide, 340)]
    right = [(-x, y) for x, y in left]
    shoulders = np.concatenate([smooth(left, closed=False), smooth(right[::-1], closed=False), neckline[::-1]])
    body = canvas.fill(shoulders + sway, who.clothes)
    canvas.paint(outside(body, canvas.blurred(shoulders + sway + (pose.light * 34, -8), 22)), dark, 0.8)
    for side in (-1, 1):
        fold = smooth([(side * 96, 225), (side * 118, 262), (side * 122, 330)], closed=False)
        canvas.soft(stroke(fold, [2, 9, 12]) + sway, dark, 6, 0.5, body)
    _trim(canvas, who, neckline + sway, sway, dark)


def _neckline(style: str) -> Points:
    """The upper edge of the clothes, from left to right."""
    deep = {"crew": 222, "collar": 236, "vneck": 262, "hood": 226, "turtle": 176}[style]
    if style == "turtle":
        return smooth([(-56, 200), (-54, 172), (-30, 180), (0, 184), (30, 180), (54, 172), (56, 200)], closed=False)
    curve = 18 if style in ("vneck", "collar") else 42
    return smooth([(-56, 196), (-curve, deep - 12), (0, deep), (curve, deep - 12), (56, 196)], closed=False)


def _trim(
    canvas: Canvas, who: Identity, edge: Points, sway: tuple[float, float], dark: tuple[float, float, float]
) -> None:
    style = who.clothes_style
    canvas.soft(stroke(shifted(edge, 0, -2), [5, 6, 5]), shadow(who.skin, 1.2), 3, 0.3 if style != "turtle" else 0)
    if style in ("crew", "vneck", "turtle"):
        canvas.fill(stroke(edge, [6, 7, 6]), mix(who.clothes, dark, 0.45))
    elif style == "collar":
        flap = mirrored([(56, 190), (64, 206), (52, 246), (24, 262), (6, 240), (36, 214)])
        half = len(flap) // 2
        for part in (flap[:half], flap[half:]):
            canvas.soft(part + sway + (0, 4), dark, 4, 0.6)
            canvas.fill(smooth(part) + sway, lit(who.clothes, 0.35))
    else:
        for side in (-1, 1):
            hood = smooth([(side * 52, 186), (side * 78, 196), (side * 84, 222), (side * 44, 246), (side * 12, 234)])
            canvas.soft(hood + sway + (0, 5), dark, 5, 0.6)
            canvas.fill(hood + sway, mix(who.clothes, dark, 0.25))
            canvas.fill(stroke([(side * 20, 238), (side * 22, 285)], [3, 2.5]) + sway, lit(who.clothes, 0.7))
