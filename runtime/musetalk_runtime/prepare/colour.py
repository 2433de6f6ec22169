"""Colour conversion: decoded video of any kind to RGB, and RGB to BT.709 in limited range."""

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

# libswscale's flags; not every PyAV names them. Without them YUV comes out a level too dark.
_BICUBIC, _FULL_CHROMA_OUT, _FULL_CHROMA_IN, _ACCURATE_ROUNDING = 0x4, 0x2000, 0x4000, 0x40000
_ACCURATE = _BICUBIC | _FULL_CHROMA_OUT | _FULL_CHROMA_IN | _ACCURATE_ROUNDING

_SD_WIDTH, _SD_HEIGHT = 1024, 576  # what players take for standard definition, so BT.601, where a file does not say
# H.273 matrix coefficients to libswscale's tables; not every PyAV names BT.2020's, 9.
_BT709, _BT601 = 1, 5
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9}


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The frame as RGB ``[height, width, 3]``, by its own matrix and range; its high dynamic range is not mapped."""
    standard = frame.width <= _SD_WIDTH and frame.height <= _SD_HEIGHT
    guess = _BT601 if standard else _BT709
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    rgb = frame.reformat(
        width,
        height,
        format="rgb24",
        src_colorspace=_MATRICES.get(int(frame.colorspace), guess),
        src_color_range=ColorRange.JPEG if full or frame.format.is_rgb else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_ACCURATE,
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)


def to_yuv420p(rgb: npt.NDArray[np.uint8]) -> av.VideoFrame:
    """RGB ``[H, W, 3]`` with even sides as a yuv420p frame, BT.709 limited range."""
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=_BT709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_ACCURATE,
    )


def tag_bt709(context: Any) -> None:
    """Say in a stream's codec context what `to_yuv420p` makes."""
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
