"""Face detection: boxes and five landmarks, by YuNet through OpenCV."""

from pathlib import Path
from threading import Lock

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument

MAX_DETECTION_SIDE = 640
MIN_SCORE = 0.7
FACE_VALUES = 14
LOG_LEVEL_SILENT = 0

Faces = npt.NDArray[np.float64]
"""``[m, 14]``, pixels: box x0, y0, x1, y1, then x, y of the right eye, left eye, nose tip, right and left mouth corner
(right and left are the person's)."""


class FaceDetector:
    """YuNet, run on frames scaled to a long side of 640 pixels. Any thread may call it."""

    def __init__(self, model: Path) -> None:
        """Load the ONNX file `model`; raises InputNotFound or InvalidArgument."""
        if not model.is_file():
            raise InputNotFound(f"{model}: no such face detector")
        self._lock = Lock()
        log = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has its functions in cv2 itself
        level = log.getLogLevel()
        log.setLogLevel(LOG_LEVEL_SILENT)  # the errors raised here say it in one line
        try:
            self._yunet = cv2.FaceDetectorYN.create(str(model), "", (MAX_DETECTION_SIDE, MAX_DETECTION_SIDE), MIN_SCORE)
            self.detect(np.zeros((MAX_DETECTION_SIDE, MAX_DETECTION_SIDE, 3), np.uint8))
        except cv2.error:
            raise InvalidArgument(
                f"{model}: OpenCV cannot run it as a face detector, expected YuNet (OpenCV Zoo's face_detection_yunet)"
            ) from None
        finally:
            log.setLogLevel(level)

    def detect(self, rgb: npt.NDArray[np.uint8]) -> Faces:
        """The faces in an RGB frame ``[H, W, 3]``."""
        height, width = rgb.shape[:2]
        scale = MAX_DETECTION_SIDE / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        with self._lock:
            self._yunet.setInputSize(size)
            found = self._yunet.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return np.empty((0, FACE_VALUES))
        faces: Faces = found[:, :FACE_VALUES].astype(np.float64)
        faces[:, 2:4] += faces[:, :2]
        faces[:, 0::2] *= width / size[0]
        faces[:, 1::2] *= height / size[1]
        return faces
