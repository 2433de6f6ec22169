"""The crop of a frame that the model sees."""

import cv2
import numpy as np

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.arrays import Array, Bytes


def crop_face(picture: Bytes, box: Box, size: int) -> Bytes:
    """The box's part of `picture`, ``[H, W, 3]`` or of one channel ``[H, W]``, resized to `size` by `size` pixels.

    Where the box leaves the frame, the frame's edge is repeated; the box must touch the frame.
    """
    return resized(cut(picture, box), size)


def cut(picture: Bytes, box: Box) -> Bytes:
    """The box's part of `picture`, as it is."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = box
    inside = picture[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    outside = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
    return np.asarray(cv2.copyMakeBorder(inside, *outside, cv2.BORDER_REPLICATE))


def resized(part: Array, size: int) -> Array:
    """`part` resized to `size` by `size` pixels: averaged where it is much larger, else interpolated."""
    shrinks = min(part.shape[:2]) > 1.5 * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(part, (size, size), interpolation=method))
