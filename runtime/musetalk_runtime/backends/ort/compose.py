"""Composition on the CPU: a generated face is blended onto an NV12 frame.

NV12 is one array ``[H * 3 / 2, W]`` uint8: H rows of luma, then H / 2 rows of interleaved chroma, one U and V for two
by two pixels; H and W are even. Colours are BT.709, limited range.
"""

import cv2
import numpy as np

from musetalk_runtime.avatar.base_layer import BaseLayer
from musetalk_runtime.avatar.box import Box
from musetalk_runtime.backends.ort.matched_face import MatchedFace
from musetalk_runtime.core.arrays import Bytes, Floats


def compose(
    frame: Bytes, face: Bytes, mask: Bytes, box: Box, weight: float = 1.0, base: BaseLayer | None = None
) -> None:
    """Blend RGB `face` ``[I, I, 3]``, resized to `box`, onto the NV12 `frame` in place, by `mask` times `weight`.

    `mask` is uint8 ``[M, M]`` over the box, 255 for the face alone; `box` is x0, y0, x1, y1 in pixels, ends excluded,
    and may leave the frame. With the frame's `base` layer the face gets the frame's colours, and its detail where both
    agree. Where the resized mask is 0 the frame keeps every bit; a chroma sample changes only if all four of its pixels
    do. Luma is resized by the cubic kernel, chroma by the linear one.
    """
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    region = _visible(mask, box, width, height)
    if region is None:
        return
    x0, y0, x1, y1 = region
    opacity = _stretched(mask.astype(np.float32), box, region)
    opacity *= weight / 255
    matched = MatchedFace.of(face, base)
    luma = frame[y0:y1, x0:x1]
    luma[:] = _blend(luma, _detailed(matched, base, luma, box, region), opacity)
    whole = np.minimum(opacity[::2], opacity[1::2])
    whole = np.minimum(whole[:, ::2], whole[:, 1::2])
    chroma = frame[height + y0 // 2 : height + y1 // 2, x0:x1]
    for k, plane in enumerate((matched.u, matched.v)):
        halved = cv2.resize(_stretched(plane, box, region), whole.shape[::-1], interpolation=cv2.INTER_AREA)
        halved += matched.shift[k]
        chroma[:, k::2] = _blend(chroma[:, k::2], halved, whole)


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


def _detailed(matched: MatchedFace, base: BaseLayer | None, under: Bytes, box: Box, region: Box) -> Floats:
    """The face's luma at the pixels of `region`, with the detail of `under`, the frame there."""
    luma = _stretched(matched.y, box, region, cv2.INTER_CUBIC)
    agreement = matched.agreement
    if base is None or agreement is None:
        return luma
    detail = under - _stretched(base.levels(), box, region, cv2.INTER_CUBIC)
    if agreement.bounds:
        detail += luma
        low, high = agreement.bounds
        cv2.max(luma, _stretched(low, box, region), dst=luma)
        cv2.min(luma, _stretched(high, box, region), dst=luma)
        detail -= luma
    detail *= _stretched(agreement.weights, box, region)
    luma += detail
    return luma


def _stretched(plane: Floats, box: Box, region: Box, kernel: int = cv2.INTER_LINEAR) -> Floats:
    """`plane` resized to `box` (half-pixel centres), at the pixels of `region`; 0 outside the box."""
    resized = cv2.resize(plane, (box[2] - box[0], box[3] - box[1]), interpolation=kernel)
    x0, y0, x1, y1 = max(region[0], box[0]), max(region[1], box[1]), min(region[2], box[2]), min(region[3], box[3])
    inside: Floats = resized[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
    if (x0, y0, x1, y1) == region:
        return inside
    return np.pad(inside, ((y0 - region[1], region[3] - y1), (x0 - region[0], region[2] - x1)))


def _blend(under: Bytes, over: Floats, opacity: Floats) -> Bytes:
    """``under + (over - under) * opacity``, rounded; exactly `under` where `opacity` is 0. `over` is overwritten."""
    levels = under.astype(np.float32)
    over -= levels
    over *= opacity
    return np.asarray(cv2.add(levels, over, dtype=cv2.CV_8U))
