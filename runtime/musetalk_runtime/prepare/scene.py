"""Whether two frames show the same scene."""

import cv2
import numpy as np

from musetalk_runtime.core.arrays import RGB, Floats

SIZE = 32, 18  # of the small grey picture that is compared
SAME_SCENE = 0.5  # correlation of two such pictures


def scene_of(rgb: RGB) -> Floats:
    """A frame as numbers whose products are correlations: ``[576]``; zeros for a frame of one colour."""
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    centred = (small - small.mean()).ravel()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > centred.size**0.5 else np.zeros_like(centred), np.float32)


def same_scene(one: Floats, other: Floats) -> bool:
    """Whether two frames' `scene_of` agree; two of one colour do not."""
    return float(one @ other) >= SAME_SCENE
