"""A photo as upright RGB, whatever its depth, colours and orientation."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.prepare.source import jpeg
from musetalk_runtime.prepare.source.exif import JPEG, PNG, exif_in
from musetalk_runtime.prepare.source.orientation import of_exif

ANIMATED = 0x02  # of the flags in a WebP's first chunk (RFC 9649, section 2.7.1)

PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"  # which some lack, and OpenCV wants
ANIMATION_BYTES = 4096  # within which an animated PNG says that it is one


def is_animated_webp(head: bytes) -> bool:
    """Whether a file that begins with `head` is one: FFmpeg reads none, or reads it as something else."""
    extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return extended and len(head) > 20 and bool(head[20] & ANIMATED)


def photo_bytes(path: Path) -> bytes | None:
    """The picture in the file of a JPEG or PNG, without what follows it and with its end; None for anything else.

    Raises InvalidMedia.
    """
    with path.open("rb") as file:
        head = file.read(len(PNG))
    if not head.startswith((JPEG, PNG)):
        return None
    data = path.read_bytes()
    if head == PNG:
        return None if b"acTL" in data[:ANIMATION_BYTES] else data.partition(PNG_END)[0] + PNG_END
    picture = jpeg.picture_in(data)
    if picture is None:
        raise InvalidMedia(f"{path}: truncated: the JPEG ends before its picture")
    return picture


def decode_photo(path: Path, data: bytes) -> npt.NDArray[np.uint8]:
    """The photo `data` as RGB uint8 ``[H, W, 3]``, EXIF orientation applied; with transparency ``[H, W, 4]``, colours
    times alpha, so that RGB alone has transparent parts black.

    Raises InvalidMedia, which names `path`. The size is not bounded here.
    """
    encoded = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise InvalidMedia(f"{path}: not a readable photo: save it as PNG or JPEG")
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if stored is not None and stored.ndim == 3 and stored.shape[2] == 4:
        opacity = stored[..., 3:].astype(np.float32) / np.iinfo(stored.dtype).max
        rgb = np.concatenate([rgb * opacity, opacity * 255], axis=2).round().astype(np.uint8)
    return of_exif(exif_in(data)).applied(rgb)  # OpenCV before 5 knows no EXIF of WebP; TIFF it turns by itself
