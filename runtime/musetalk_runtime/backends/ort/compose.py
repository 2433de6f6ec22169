"""Composition on the CPU: a generated face is blended onto an NV12 frame.

NV12 is one array ``[H * 3 / 2, W]`` uint8: H rows of luma, then H / 2 rows of interleaved chroma, one U and V for two
by two pixels; H and W are even. Colours are BT.709, limited range.
"""

import cv2
import numpy as np

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.arrays import Bytes

# RGB in [0, 255] to Y, U, V (ITU-R BT.709, 8 bits, limited range), one row each, the last column added.
_KR, _KB = 0.2126, 0.0722
_LUMA = np.array([_KR, 1 - _KR - _KB, _KB])
_TO_YUV = np.vstack(
    [
        np.append(_LUMA * 219 / 255, 16),
        np.append((np.array([0, 0, 1]) - _LUMA) * 112 / 255 / (1 - _KB), 128),
        np.append((np.array([1, 0, 0]) - _LUMA) * 112 / 255 / (1 - _KR), 128),
    ]
).astype(np.float32)


def compose(frame: Bytes, face: Bytes, mask: Bytes, box: Box, weight: float = 1.0) -> None:
    """Blend RGB `face` ``[I, I, 3]``, resized to `box`, onto the NV12 `frame` in place, by `mask` times `weight`.

    `mask` is uint8 ``[M, M]`` over the box, 255 for the face alone; `box` is x0, y0, x1, y1 in pixels, ends excluded,
    and may leave the frame. Where the resized mask is 0 the frame keeps every bit; a chroma sample changes only
    if all four of its pixels do.
    """
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    region = _visible(mask, box, width, height)
    if region is None:
        return
    x0, y0, x1, y1 = region
    alpha = _stretched(mask, box, region)
    if weight < 1.0:
        alpha = cv2.convertScaleAbs(alpha, alpha=weight)
    yuv = cv2.transform(_stretched(face, box, region), _TO_YUV)
    luma = frame[y0:y1, x0:x1]
    luma[:] = _blend(luma, yuv[..., 0], alpha)
    chroma = frame[height + y0 // 2 : height + y1 // 2, x0:x1].reshape((y1 - y0) // 2, (x1 - x0) // 2, 2)
    halved = cv2.resize(yuv[..., 1:], chroma.shape[1::-1], interpolation=cv2.INTER_AREA)
    whole = alpha.reshape(chroma.shape[0], 2, chroma.shape[1], 2).min(axis=(1, 3))
    blended = _blend(chroma, halved, whole[..., None])
    frame[height + y0 // 2 : height + y1 // 2, x0:x1] = blended.reshape(chroma.shape[0], -1)


def _visible(mask: Bytes, box: Box, width: int, height: int) -> Box | None:
    """The part of the frame, on even borders, that the non-zero rows and columns of the mask can reach."""
    x0, y0, x1, y1 = box
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    cell_x, cell_y = (x1 - x0) / mask.shape[1], (y1 - y0) / mask.shape[0]
    left, right = max(x0, int(x0 + (columns[0] - 1) * cell_x)), min(x1, int(x0 + (columns[-1] + 2) * cell_x) + 1)
    top, bottom = max(y0, int(y0 + (rows[0] - 1) * cell_y)), min(y1, int(y0 + (rows[-1] + 2) * cell_y) + 1)
    left, top = max(0, left) // 2 * 2, max(0, top) // 2 * 2
    right, bottom = min(width, (right + 1) // 2 * 2), min(height, (bottom + 1) // 2 * 2)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _stretched(image: Bytes, box: Box, region: Box) -> Bytes:
    """`image` resized to `box` (bilinear, half-pixel centres), at the pixels of `region`; 0 outside the box."""
    resized = cv2.resize(image, (box[2] - box[0], box[3] - box[1]), interpolation=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = max(region[0], box[0]), max(region[1], box[1]), min(region[2], box[2]), min(region[3], box[3])
    inside = resized[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
    if (x0, y0, x1, y1) == region:
        return np.asarray(inside)
    rim = ((y0 - region[1], region[3] - y1), (x0 - region[0], region[2] - x1), (0, 0))
    return np.pad(inside, rim[: inside.ndim])


def _blend(under: Bytes, over: Bytes, alpha: Bytes) -> Bytes:
    """``under + (over - under) * alpha / 255``, rounded; exactly `under` where alpha is 0."""
    difference = over.astype(np.int32) - under
    return (under + (difference * alpha + 127 + (difference < 0)) // 255).astype(np.uint8)
