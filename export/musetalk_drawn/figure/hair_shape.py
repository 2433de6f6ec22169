"""The outlines of hair styles: behind the head, and over the forehead."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from musetalk_drawn.figure.curve import Points, ellipse, mirrored, smooth

Half = list[tuple[float, float]]

CAP: Half = [(0, -156), (44, -147), (82, -117), (104, -66), (104, -8)]
TALL: Half = [(0, -172), (50, -161), (92, -124), (110, -66), (106, -4)]
LOW: Half = [(0, -144), (44, -135), (80, -106), (100, -58), (100, -14)]


@dataclass(frozen=True)
class HairShape:
    """One style about the point between the eyes. ``outer`` and ``line`` run from the person's left ear over the head
    to the other: what lies between is hair over the face; ``back`` is behind the head, or empty."""

    outer: Points
    line: Points
    back: Points
    bun: Points

    @classmethod
    @lru_cache(maxsize=16)  # of a class, for its few styles
    def of(cls, style: str) -> "HairShape":
        """The style of that name (see HAIR_STYLES)."""
        outer, line = OUTERS[style], LINES[style]
        empty = np.zeros((0, 2))
        back = smooth(mirrored(BACKS[style])) if style in BACKS else empty
        bun = BUN if style == "bun" else empty
        return cls(_bumps(_over(outer), style), _bumps(smooth(line, closed=False), style), _bumps(back, style), bun)


def _over(half: Half) -> Points:
    right = half[::-1]
    return smooth([*right, *[(-x, y) for x, y in half[1:]]], closed=False)


def _bumps(points: Points, style: str) -> Points:
    """Curls: an edge of round locks."""
    if style != "curls" or not len(points):
        return points
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    even = np.linspace(0, along[-1], max(2, int(along[-1] / 3)))
    p = np.stack([np.interp(even, along, points[:, k]) for k in (0, 1)], axis=1)
    away = p - (0, -40)
    away /= np.maximum(np.hypot(*away.T), 1)[:, None]
    curled: Points = p + away * (9 * np.abs(np.sin(even / 36 * np.pi)))[:, None]
    return curled


OUTERS: dict[str, Half] = {
    "side": TALL,
    "bob": [*CAP[:-1], (108, -20), (106, 40)],
    "long": [*CAP[:-1], (109, -10), (108, 60)],
    "bun": LOW,
    "curls": [(0, -162), (54, -151), (102, -116), (120, -62), (112, 6)],
    "crop": LOW,
    "swept": [(8, -176), (62, -168), (100, -128), (108, -66), (101, -4)],
    "wave": [(0, -164), (48, -153), (90, -119), (111, -62), (117, 10), (110, 70)],
}
LINES: dict[str, Half] = {
    "side": [(99, 6), (89, -26), (80, -56), (40, -70), (-4, -84), (-38, -104), (-62, -86), (-84, -50), (-99, 6)],
    "bob": [(100, 52), (88, 4), (80, -34), (44, -48), (0, -44), (-44, -48), (-80, -34), (-88, 4), (-100, 52)],
    "long": [(104, 84), (92, 14), (82, -40), (44, -80), (0, -106), (-44, -80), (-82, -40), (-92, 14), (-104, 84)],
    "bun": [(97, 0), (89, -34), (74, -68), (40, -88), (0, -94), (-40, -88), (-74, -68), (-89, -34), (-97, 0)],
    "curls": [(98, 14), (90, -24), (76, -54), (40, -72), (0, -76), (-40, -72), (-76, -54), (-90, -24), (-98, 14)],
    "crop": [(97, 2), (91, -30), (84, -60), (60, -82), (0, -88), (-60, -82), (-84, -60), (-91, -30), (-97, 2)],
    "swept": [(97, 4), (90, -30), (83, -62), (62, -92), (34, -104), (-20, -92), (-66, -76), (-88, -42), (-97, 4)],
    "wave": [
        (104, 78),
        (93, 20),
        (88, -22),
        (84, -40),
        (54, -62),
        (8, -78),
        (-30, -106),
        (-62, -84),
        (-86, -36),
        (-93, 20),
        (-104, 78),
    ],
}
BACKS: dict[str, Half] = {
    "bob": [(0, -150), (70, -132), (112, -60), (122, 20), (118, 88), (98, 122), (60, 130), (0, 128)],
    "long": [(0, -150), (70, -132), (112, -60), (122, 30), (128, 120), (136, 200), (118, 262), (60, 250), (0, 246)],
    "curls": [(0, -158), (72, -140), (126, -70), (136, 10), (124, 76), (92, 104), (40, 100), (0, 98)],
    "wave": [
        (0, -156),
        (74, -138),
        (116, -60),
        (116, 10),
        (130, 62),
        (122, 118),
        (134, 166),
        (96, 190),
        (40, 170),
        (0, 165),
    ],
}
BUN = ellipse((0, -170), (42, 38))
