"""The canvas: a picture to paint filled shapes on, with clean edges or soft ones."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.curve import Points

Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 255."""

SIDE = 512  # the picture that coordinates are given for
SUPERSAMPLING = 2  # pixels of a mask for each pixel of the picture, each way
FRACTION_BITS = 4  # of OpenCV's coordinates
BLUR_REACH = 2.6  # standard deviations that a soft shape reaches


class Mask(NamedTuple):
    """How much of each pixel is covered: ``[h, w]`` float32, 0 to 1, its corner at x, y of the canvas."""

    x: int
    y: int
    weights: npt.NDArray[np.float32]


class Canvas:
    """`size` x `size` pixels, addressed as if they were 512 x 512."""

    def __init__(self, size: int) -> None:
        """A black picture."""
        self.size, self.scale = size, size / SIDE
        self.planes = np.zeros((3, size, size), np.float32)  # planar: NumPy is slow over rows of three

    def copy(self) -> "Canvas":
        """The same picture again."""
        other = Canvas(self.size)
        other.planes[:] = self.planes
        return other

    def rgb(self) -> npt.NDArray[np.uint8]:
        """The picture, ``[size, size, 3]``."""
        picture: npt.NDArray[np.uint8] = cv2.merge(
            [np.clip(plane + 0.5, 0, 255).astype(np.uint8) for plane in self.planes]
        )
        return picture

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0, clip: Mask | None = None) -> Mask:
        """Paint a polygon; gives its mask, before `clip`."""
        mask = self.mask(points)
        self.paint(mask, colour, alpha, clip)
        return mask

    def soft(self, points: Points, colour: Colour, sigma: float, alpha: float = 1.0, clip: Mask | None = None) -> None:
        """Paint a polygon blurred by `sigma` pixels of a 512 picture."""
        self.paint(self.blurred(points, sigma), colour, alpha, clip)

    def paint(self, mask: Mask, colour: Colour, alpha: float = 1.0, clip: Mask | None = None) -> None:
        """Paint where `mask` is, and `clip` too."""
        if clip is not None:
            mask = overlap(mask, clip)
        height, width = mask.weights.shape
        if not height or not width or alpha <= 0:
            return
        weights = mask.weights * np.float32(alpha)
        for plane, value in zip(self.planes, colour, strict=True):
            region = plane[mask.y : mask.y + height, mask.x : mask.x + width]
            region += (np.float32(value) - region) * weights

    def mask(self, points: Points) -> Mask:
        """What a polygon covers, with clean edges."""
        p = points * self.scale
        x0, y0, x1, y1 = self._bounds(p, 2)
        if x1 <= x0 or y1 <= y0:
            return Mask(0, 0, np.zeros((0, 0), np.float32))
        width, height = x1 - x0, y1 - y0
        fine = _polygon((p - (x0, y0) + 0.5) * SUPERSAMPLING - 0.5, width * SUPERSAMPLING, height * SUPERSAMPLING)
        covered = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
        return Mask(x0, y0, covered.astype(np.float32) / 255)

    def blurred(self, points: Points, sigma: float) -> Mask:
        """What a polygon covers, blurred: drawn coarsely, since blurring leaves no detail."""
        p, sigma = points * self.scale, sigma * self.scale
        coarse = max(1, int(sigma / 2))
        x0, y0, x1, y1 = self._bounds(p, BLUR_REACH * sigma + 1)
        columns, rows = -(-(x1 - x0) // coarse), -(-(y1 - y0) // coarse)
        if columns <= 0 or rows <= 0:
            return Mask(0, 0, np.zeros((0, 0), np.float32))
        rough = _polygon((p - (x0, y0) + 0.5) / coarse - 0.5, columns, rows)
        rough = cv2.GaussianBlur(
            rough.astype(np.float32) / 255, (0, 0), sigma / coarse, borderType=cv2.BORDER_REPLICATE
        )
        full = cv2.resize(rough, (columns * coarse, rows * coarse), interpolation=cv2.INTER_LINEAR)
        return Mask(x0, y0, full[: y1 - y0, : x1 - x0])

    def _bounds(self, pixels: Points, margin: float) -> tuple[int, int, int, int]:
        low = np.clip(np.floor(pixels.min(axis=0) - margin), 0, self.size)
        high = np.clip(np.ceil(pixels.max(axis=0) + margin), 0, self.size)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def overlap(one: Mask, other: Mask) -> Mask:
    """Where both are: their product."""
    x0, y0 = max(one.x, other.x), max(one.y, other.y)
    x1, y1 = (
        max(low, min(a + b for a, b in ends))
        for low, ends in (
            (x0, [(m.x, m.weights.shape[1]) for m in (one, other)]),
            (y0, [(m.y, m.weights.shape[0]) for m in (one, other)]),
        )
    )
    parts = (m.weights[y0 - m.y : y1 - m.y, x0 - m.x : x1 - m.x] for m in (one, other))
    return Mask(x0, y0, np.multiply(*parts))


def outside(mask: Mask, shape: Mask) -> Mask:
    """The part of `mask` that `shape` leaves free."""
    both = overlap(mask, shape)
    left = mask.weights.copy()
    y, x = both.y - mask.y, both.x - mask.x
    height, width = both.weights.shape
    left[y : y + height, x : x + width] -= both.weights
    return Mask(mask.x, mask.y, left)


def _polygon(points: Points, width: int, height: int) -> npt.NDArray[np.uint8]:
    picture = np.zeros((height, width), np.uint8)
    cv2.fillPoly(picture, [np.round(points * (1 << FRACTION_BITS)).astype(np.int32)], 255, cv2.LINE_AA, FRACTION_BITS)
    return picture
