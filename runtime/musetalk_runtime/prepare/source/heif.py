"""HEIC and AVIF photos, which libheif and libavif decode: tiles, rotation, mirroring, cropping and alpha."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InvalidMedia, MachineError
from musetalk_runtime.prepare.source.orientation import BY_EXIF, UPRIGHT

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
MAX_HEAD_BYTES = 1 << 16  # bytes in which the boxes that describe the picture are
AVIF_BRANDS = {b"avif", b"avis"}


def heif_format(data: bytes) -> str:
    """HEIC or AVIF, by the brands in the file's first box; empty for anything else."""
    length = int.from_bytes(data[:4], "big")
    if data[4:8] != b"ftyp" or length > 512:
        return ""
    brands = {data[at : at + 4] for at in (8, *range(16, length, 4))}
    return "HEIC" if brands & HEIC_BRANDS else "AVIF" if brands & AVIF_BRANDS else ""


def read_heif(path: Path, data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """The photo as it is shown, uint8 ``[H, W, 4]``: RGB times alpha, so that transparent parts are black, and alpha.

    Raises InvalidMedia, and MachineError where Pillow and pillow-heif are missing.
    """
    try:
        import pillow_heif
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        install = "pip install 'musetalk-edge[heif]', or save it as JPEG"
        raise MachineError(f"{path}: a {heif_format(data)} photo: {install}") from None
    pillow_heif.register_heif_opener()
    try:
        with Image.open(io.BytesIO(data), formats=["HEIF", "AVIF"]) as opened:
            if opened.width * opened.height > max_pixels:
                raise InvalidMedia(f"{path}: no picture of at most 4096x4096 pixels: scale it down first")
            if heif_format(data) == "AVIF" and getattr(opened, "n_frames", 1) > 1:
                raise InvalidMedia(f"{path}: an animated AVIF: make a video of it, or save one of its pictures")
            by_exif = opened.info.get("original_orientation", 1)  # pillow-heif's: it has set it to 1
            shown = _rgba(ImageOps.exif_transpose(opened))
    except InvalidMedia:
        raise
    except UnidentifiedImageError:
        raise InvalidMedia(f"{path}: truncated or damaged: its picture is not there") from None
    except Exception as error:  # the libraries' own: OSError, RuntimeError, SyntaxError and more
        raise InvalidMedia(f"{path}: truncated or damaged: {error}") from None
    if not any(box in data[:MAX_HEAD_BYTES] for box in (b"irot", b"imir")):  # libheif has applied these
        shown = BY_EXIF.get(by_exif, UPRIGHT).applied(shown)
    return np.asarray(
        np.concatenate([shown[..., :3] * (shown[..., 3:] / 255), shown[..., 3:]], axis=2).round(), np.uint8
    )


def _rgba(image: Any) -> npt.NDArray[np.float32]:
    if image.mode.startswith("I"):  # grey of more than 8 bits, which Pillow would cut off there
        grey = np.asarray(image, np.float32) / 257
        return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    return np.asarray(image.convert("RGBA"), np.float32)
