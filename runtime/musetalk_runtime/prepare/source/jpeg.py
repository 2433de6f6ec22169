"""Whether a JPEG is whole, and where its picture ends: decoders fill what is missing with grey, and tell nobody."""

from typing import Any

import av
import numpy as np
import numpy.typing as npt

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length (ITU-T T.81, table B.1)
FILLER = b"\x55" * 4096  # would be decoded as some picture, where one is missing


def picture_in(data: bytes) -> bytes | None:
    """The first picture of the JPEG `data`, with its end marker; None where the end of the picture is missing.

    What follows is left out: the video of a motion photo, the gain map of a bright one, or the photo's other pictures.
    """
    if end := _end(data):
        return data[:end]
    return data + EOI if _has_picture(data) else None


def _end(data: bytes) -> int:
    """Where the markers lead to the end marker, after it; 0 if they do not."""
    at = len(SOI)
    while (at := data.find(b"\xff", at)) >= 0 and at + 2 <= len(data):
        marker = data[at + 1]
        if marker == EOI[1]:
            return at + 2
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker in ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # a scan's data follow, in which FF 00 stands for FF
    return 0


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
