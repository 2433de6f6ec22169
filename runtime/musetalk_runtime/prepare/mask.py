"""The blend mask: which part of the box is taken from the model, with a soft edge."""

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import MIDDLE, Box
from musetalk_runtime.avatar.pack import MASK_SIZE

MIN_EXTENT, MAX_EXTENT = 0.5, 1.6

MOUTH = (0.5, 0.75)  # where the mouth lies when no landmarks tell
FEATHER = 0.04
RAMP = 0.07  # the width over which the mask fades towards the box's sides


def face_mask(box: Box, landmarks: npt.NDArray[np.float64] | None, extent: float) -> npt.NDArray[np.uint8]:
    """Mask ``[MASK_SIZE, MASK_SIZE]`` over `box`: 0 keeps the frame, 255 takes the model's face.

    It covers mouth, chin and jaw, is 0 on its outermost cells and above the face's middle. `landmarks` ``[5, 2]`` are
    pixels of the frame; `extent` (0.5 to 1.6) widens it, up to the whole lower half.
    """
    mouth_x, mouth_y = MOUTH if landmarks is None else _mouth(box, landmarks)
    cells = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    x, y = cells[None, :], cells[:, None]
    middle = (MIDDLE + 1) / 2
    jaw = _inside(x, y, (0.6 * mouth_x + 0.2, middle), (0.37 * extent, 0.25 * extent))
    lips = _inside(x, y, (mouth_x, mouth_y), (0.30 * extent, 0.15 * extent))
    region = cv2.GaussianBlur((jaw | lips).astype(np.float32), (0, 0), FEATHER * MASK_SIZE)
    sides = _fade(x, RAMP) * _fade(1 - x, RAMP)
    mask = region * sides * _fade(y - MIDDLE, RAMP) * _fade(1 - y, RAMP)
    return np.asarray((mask * 255).round(), np.uint8)


def _mouth(box: Box, landmarks: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The mouth's centre in box coordinates, kept where a mouth can be."""
    centre = landmarks[3:5].mean(axis=0)
    x = (centre[0] - box[0]) / (box[2] - box[0])
    y = (centre[1] - box[1]) / (box[3] - box[1])
    return float(np.clip(x, 0.25, 0.75)), float(np.clip(y, 0.6, 0.85))


def _inside(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], centre: tuple[float, float], radii: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
    return inside


def _fade(distance: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    """0 up to the first cell's centre, then smoothly to 1 over `width`."""
    t = np.clip((distance - 0.5 / MASK_SIZE) / width, 0, 1)
    return t * t * (3 - 2 * t)
