"""Colour conversion: decoded video of any kind to RGB, transparency, and RGB to BT.709 in limited range."""

import re
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.core.errors import InvalidArgument

# libswscale's flags; not every PyAV names them. Without them YUV comes out a level too dark.
_BICUBIC, _FULL_CHROMA_OUT, _FULL_CHROMA_IN, _ACCURATE_ROUNDING = 0x4, 0x2000, 0x4000, 0x40000
_ACCURATE = _BICUBIC | _FULL_CHROMA_OUT | _FULL_CHROMA_IN | _ACCURATE_ROUNDING

_SD_WIDTH, _SD_HEIGHT = 1024, 576  # what players take for standard definition, so BT.601, where a file does not say
# H.273 matrix coefficients to libswscale's tables; not every PyAV names BT.2020's, 9.
_BT709, _BT601 = 1, 5
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9}

TRANSPARENT = "alpha"  # as a background: none, the transparency is kept
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255 each."""
BLACK: Colour = (0, 0, 0)


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> RGB:
    """The frame as RGB ``[height, width, 3]``, by its own matrix and range; its high dynamic range is not mapped."""
    return _converted(frame, width, height, "rgb24")


def to_premultiplied(frame: av.VideoFrame, width: int, height: int) -> Bytes:
    """As `to_rgb`, with the transparency of a frame that has any: ``[height, width, 4]``, colours times alpha."""
    if not has_alpha(frame.format):
        return to_rgb(frame, width, height)
    return premultiplied(_converted(frame, width, height, "rgba"))


def has_alpha(pixels: Any) -> bool:
    """Whether a pixel format of PyAV has transparency."""
    return any(component.is_alpha for component in pixels.components)


def premultiplied(rgba: Bytes) -> Bytes:
    """RGBA ``[H, W, 4]`` with its colours times its alpha."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return np.asarray(np.concatenate([(rgba[..., :3] * alpha + 127) // 255, alpha], axis=2), np.uint8)


def on_background(picture: Bytes, colour: Colour) -> RGB:
    """`picture`, RGB or premultiplied RGBA ``[H, W, 3 or 4]``, on a background of one colour."""
    if picture.shape[2] == 3:
        return picture
    shown = ((255 - picture[..., 3:].astype(np.uint16)) * np.array(colour, np.uint16) + 127) // 255
    return np.asarray(np.minimum(picture[..., :3] + shown, 255), np.uint8)


def alpha_of(picture: Bytes) -> Bytes:
    """The alpha ``[H, W]`` of `picture`, RGB or RGBA ``[H, W, 3 or 4]``: 255 is opaque."""
    opaque = picture.shape[2] == 3
    return np.full(picture.shape[:2], 255, np.uint8) if opaque else np.ascontiguousarray(picture[..., 3])


def parse_background(text: str) -> Colour:
    """The colour of ``#rrggbb``; black for ``alpha``, where the transparency is kept. Raises InvalidArgument."""
    if text == TRANSPARENT:
        return BLACK
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        raise InvalidArgument(f"--background {text[:20]!r}: expected a colour such as '#00ff00', or {TRANSPARENT}")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _converted(frame: av.VideoFrame, width: int, height: int, pixels: str) -> Bytes:
    standard = frame.width <= _SD_WIDTH and frame.height <= _SD_HEIGHT
    guess = _BT601 if standard else _BT709
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    converted = frame.reformat(
        width,
        height,
        format=pixels,
        src_colorspace=_MATRICES.get(int(frame.colorspace), guess),
        src_color_range=ColorRange.JPEG if full or frame.format.is_rgb else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_ACCURATE,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


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
