"""Whether a JPEG is whole: decoders fill what is missing with grey, and say so to nobody."""

from typing import Any

import av
import numpy as np
import numpy.typing as npt

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length (ITU-T T.81, table B.1)
FILLER = b"\x55" * 4096  # would be decoded as some picture, where one is missing


def is_whole(data: bytes) -> bool:
    """Whether the JPEG `data` has its end marker, or all of its picture without one.

    What follows the end marker, as the video of a motion photo, is not looked at.
    """
    return _has_end(data) or _has_picture(data)


def _has_end(data: bytes) -> bool:
    """Whether the markers lead to the end marker."""
    at = len(SOI)
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data) + 2:
        marker = data[at + 1] if at + 1 < len(data) else 0
        if marker == EOI[1]:
            return True
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker in ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # a scan's data follow, in which FF 00 stands for FF
    return False


def _has_picture(data: bytes) -> bool:
    """Whether the picture is the same whatever comes after the data."""
    try:
        one, other = (_decoded(data + filler + EOI) for filler in (b"", FILLER))
    except (av.FFmpegError, IndexError):
        return False
    return np.array_equal(one, other)


def _decoded(data: bytes) -> npt.NDArray[Any]:
    """Its luminance."""
    decoder: Any = av.CodecContext.create("mjpeg", "r")
    frame = decoder.decode(av.Packet(data))[0]
    return np.asarray(frame.reformat(format="gray").to_ndarray())
