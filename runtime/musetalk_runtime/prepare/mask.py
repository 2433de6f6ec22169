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
CHEEK = 2.4  # times as far from the nose as the mouth's corner on that side is the cheek's edge, or a little less
LEAST_CHEEK = 0.25  # of the mouth's width, beyond its corners: of faces seen from the side
JAW_POWER = 1.8  # of the jaw, a superellipse: 2 would be an ellipse, and chins are narrower


def face_mask(box: Box, landmarks: npt.NDArray[np.float64] | None, extent: float) -> npt.NDArray[np.uint8]:
    """Mask ``[MASK_SIZE, MASK_SIZE]`` over `box`: 0 keeps the frame, 255 takes the model's face.

    It covers mouth, chin and jaw, is 0 on its outermost cells and above the face's middle. `landmarks` ``[5, 2]`` are
    pixels of the frame: with them it ends at the jaw of a face that is turned or tilted. `extent` (0.5 to 1.6) widens
    it, up to the whole lower half.
    """
    mouth_x, mouth_y = MOUTH if landmarks is None else _mouth(box, landmarks)
    cells = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    x, y = cells[None, :], cells[:, None]
    middle = (MIDDLE + 1) / 2
    jaw = _inside(x, y, (0.6 * mouth_x + 0.2, middle), (0.37 * extent, 0.25 * extent))
    lips = _inside(x, y, (mouth_x, mouth_y), (0.30 * extent, 0.15 * extent))
    shown = (jaw | lips) & _within_jaw(box, landmarks, x, y, extent)
    region = cv2.GaussianBlur(shown.astype(np.float32), (0, 0), FEATHER * MASK_SIZE)
    sides = _fade(x, RAMP) * _fade(1 - x, RAMP)
    mask = region * sides * _fade(y - MIDDLE, RAMP) * _fade(1 - y, RAMP)
    return np.asarray((mask * 255).round(), np.uint8)


def _within_jaw(
    box: Box,
    landmarks: npt.NDArray[np.float64] | None,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    extent: float,
) -> npt.NDArray[np.bool_]:
    """Where a face with these landmarks can be below its nose, at box coordinates `x` and `y`; everywhere without them.

    The jaw is half a superellipse around the nose, upright as eyes and mouth are. It ends at the box's bottom, and on
    each side where the cheek ends: nearer to the nose on the side that is turned away, as the mouth's corner is.
    """
    everywhere = np.ones((MASK_SIZE, MASK_SIZE), np.bool_)
    if landmarks is None:
        return everywhere
    nose, corners = landmarks[2], landmarks[3:5]
    upright = corners.mean(axis=0) - landmarks[:2].mean(axis=0)
    if upright[1] <= abs(upright[0]) or nose[1] >= box[3]:
        return everywhere
    down = upright / np.hypot(*upright)
    right = np.array([down[1], -down[0]])
    pixels = (
        np.stack(np.broadcast_arrays(box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1])), axis=-1) - nose
    )
    left_corner, right_corner = sorted(((corners - nose) @ right).tolist())
    least = LEAST_CHEEK * (right_corner - left_corner)
    reach = max(extent, 1.0)
    left_cheek, right_cheek = (max(CHEEK * far, far + least, least) for far in (-left_corner, right_corner))
    across = pixels @ right
    sideways = np.abs(across) / (np.where(across < 0, left_cheek, right_cheek) * reach + 1e-9)
    downwards = np.maximum(pixels @ down, 0) * down[1] / ((box[3] - nose[1]) * reach)
    return np.asarray(sideways**JAW_POWER + downwards**JAW_POWER <= 1, np.bool_)


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
