"""The crop of a frame that the model sees."""

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box


def crop_face(rgb: npt.NDArray[np.uint8], box: Box, size: int) -> npt.NDArray[np.uint8]:
    """The box's part of an RGB frame ``[H, W, 3]``, resized to ``[size, size, 3]``.

    Where the box leaves the frame, the frame's edge is repeated; the box must touch the frame.
    """
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = box
    inside = rgb[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    outside = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
    padded = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_REPLICATE)
    shrinks = min(padded.shape[:2]) > 1.5 * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    crop: npt.NDArray[np.uint8] = cv2.resize(padded, (size, size), interpolation=method)
    return crop
