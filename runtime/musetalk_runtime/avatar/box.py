"""The face box that the model repaints: where it lies on a face, and which boxes can be used."""

import numpy as np
import numpy.typing as npt

MIN_BOX = 16  # pixels
MAX_BOX = 4  # times the frame's longer side
CHIN_MARGIN = 0.04  # of the height from top to chin
MIDDLE = 0.5 / (1 + CHIN_MARGIN)  # where the face's middle lies in the box, from its top: masks are 0 above it
SPARE = 1 / 16  # of the box's height above the middle, for what looks at the surroundings of a mask
ROWS_STEP = 8  # of which hidden rows are a multiple
NOSE_SHARE = 0.6  # of the way from between the eyes to the nose tip lies the middle of the box

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last two exclusive; may reach outside the frame."""


def face_box(face: npt.NDArray[np.float64]) -> Box | None:
    """The model's box of one face ``[14]`` (see `Faces`), or None where its landmarks make no usable one."""
    x0, _, x1, chin = face[:4]
    eyes_y, nose_y = (face[5] + face[7]) / 2, face[9]
    half = eyes_y + NOSE_SHARE * (nose_y - eyes_y)
    top = 2 * half - chin
    bottom = chin + CHIN_MARGIN * (chin - top)
    box = (round(x0), round(top), round(x1), round(bottom))
    sound = nose_y < chin and min(box[2] - box[0], box[3] - box[1]) >= MIN_BOX
    return box if sound else None


def hidden_rows(size: int) -> int:
    """How many rows at the top of a face of `size` pixels are never shown: no mask reaches them."""
    return int(size * (MIDDLE - SPARE)) // ROWS_STEP * ROWS_STEP


def box_problem(box: Box, width: int, height: int) -> str | None:
    """What keeps `box` from being used on frames of this size, or None."""
    x0, y0, x1, y1 = box
    largest = MAX_BOX * max(width, height)
    if not (MIN_BOX <= x1 - x0 <= largest and MIN_BOX <= y1 - y0 <= largest):
        return f"is {x1 - x0}x{y1 - y0} pixels (x1 - x0, y1 - y0), expected {MIN_BOX} to {largest}"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return f"lies outside the frame of {width}x{height} pixels"
    return None
