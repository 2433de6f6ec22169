"""A photo as upright RGB, whatever its depth, colours and orientation."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.prepare import jpeg
from musetalk_runtime.prepare.orientation import of_exif

ANIMATED = 0x02  # of the flags in a WebP's first chunk (RFC 9649, section 2.7.1)


def is_animated_webp(head: bytes) -> bool:
    """Whether a file that begins with `head` is one: FFmpeg reads none, or reads it as something else."""
    extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return extended and len(head) > 20 and bool(head[20] & ANIMATED)


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """The photo as RGB uint8 ``[H, W, 3]``: EXIF orientation applied, transparent parts black.

    Raises InvalidMedia. The size is not bounded here.
    """
    data = path.read_bytes()
    if data.startswith(jpeg.SOI):
        if not jpeg.is_whole(data):
            raise InvalidMedia(f"{path}: truncated: the JPEG ends before its picture")
        data += jpeg.EOI  # which some lack, and OpenCV wants
    encoded = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise InvalidMedia(f"{path}: not a readable photo: save it as PNG or JPEG")
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.ndim == 3 and stored.shape[2] == 4:
        opacity = stored[..., 3:].astype(np.float32) / np.iinfo(stored.dtype).max
        rgb = (rgb * opacity).round().astype(np.uint8)
    return of_exif(data).applied(rgb)  # OpenCV before 5 knows no EXIF of WebP
