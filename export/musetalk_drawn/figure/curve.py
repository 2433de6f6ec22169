"""Smooth curves through few points, and strokes along them."""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""``[n, 2]``: x to the right, y down; pixels of a 512 picture, or of the head before it is turned."""

POINTS_PER_SPAN = 8  # of a curve


def smooth(points: npt.ArrayLike, closed: bool = True) -> Points:
    """A Catmull-Rom curve through `points` ``[n, 2]``, eight points a span."""
    p = np.asarray(points, np.float64)
    ends = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    q = np.concatenate([ends[0], p, ends[1]])
    a, b, c, d = q[:-3, None], q[1:-2, None], q[2:-1, None], q[3:, None]
    t = (np.arange(POINTS_PER_SPAN) / POINTS_PER_SPAN)[None, :, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def stroke(line: npt.ArrayLike, widths: npt.ArrayLike) -> Points:
    """The outline of a brush drawn along `line` ``[n, 2]``; `widths` are spread over it, from end to end."""
    p = np.asarray(line, np.float64)
    w = np.asarray(widths, np.float64)
    along = np.gradient(p, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    half = np.interp(np.linspace(0, 1, len(p)), np.linspace(0, 1, len(w)), w)[:, None] / 2
    return np.concatenate([p + normal * half, (p - normal * half)[::-1]])


def ellipse(centre: tuple[float, float], radii: tuple[float, float], points: int = 40) -> Points:
    """An ellipse whose axes lie along x and y."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


def shifted(points: Points, x: float, y: float) -> Points:
    """The points, moved."""
    moved: Points = points + np.array([x, y])
    return moved


def mirrored(points: npt.ArrayLike) -> Points:
    """The points, then their mirror images about x = 0 in the opposite order: half an outline made whole."""
    p = np.asarray(points, np.float64)
    other = p[::-1] * (-1, 1)
    return np.concatenate([p, other[np.abs(other[:, 0]) > 1e-6]])
