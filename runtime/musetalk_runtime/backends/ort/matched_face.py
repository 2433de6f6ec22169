"""A generated face, matched with the avatar's frame: its colours corrected, and told where both agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from musetalk_runtime.avatar.base_layer import BaseLayer, cell_means, fine
from musetalk_runtime.core.arrays import Bytes, Floats

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

BLACK = 16  # luma
DIM = 8.0  # levels above black: below that no gain can be told
MAX_GAIN = 1.25  # of luma above black, or its inverse
MAX_SHIFT = 16.0  # levels of chroma
SAME = 12.0  # levels: a cell of the ring that differs by less shows the same
LEAST_SAME = 1 / 8  # of the ring: where less of it shows the same, colours cannot be compared
ALIKE, UNLIKE = 2.0, 6.0  # levels between a cell of both faces: all detail up to the first, none from the second on
AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class MatchedFace:
    """A face as Y, U and V, float32 ``[I, I]`` each, U and V without ``shift``, float32 ``[2]``, which is to be added.

    Of a face that was matched with a base layer, ``agreement`` says where it takes the frame's detail.
    """

    y: Floats
    u: Floats
    v: Floats
    shift: Floats
    agreement: "Agreement | None"

    @classmethod
    def of(cls, face: Bytes, base: BaseLayer | None) -> "MatchedFace":
        """RGB `face` ``[I, I, 3]`` as it is, or matched with `base`."""
        levels = face.astype(np.float32)
        y, u, v = (cv2.transform(levels, row) for row in _TO_YUV[:, None])
        if base is None:
            return cls(y, u, v, np.zeros(2, np.float32), None)
        cells = [cell_means(plane) for plane in (y, u, v)]
        gain, shift = _correction(cells, base)
        difference = cv2.absdiff(_lit(cells[0], gain), base.cells)
        weights = np.clip((UNLIKE - cv2.dilate(difference, AROUND)) * (1 / (UNLIKE - ALIKE)), 0, 1)
        y = _lit(y, gain)
        if not base.sharpening:
            return cls(y, u, v, shift, Agreement(weights, None))
        bounds = cv2.erode(y, AROUND), cv2.dilate(y, AROUND)
        return cls(_sharpened(y, weights, base.sharpening), u, v, shift, Agreement(weights, bounds))


@dataclass(frozen=True)
class Agreement:
    """How much of the frame's detail each cell of a face takes: ``weights`` float32 ``[G, G]``, in [0, 1].

    Where it takes none and is sharpened, the stretched luma is kept within ``bounds``, float32 ``[I, I]`` each: the
    least and the most around each pixel. It would pass them at edges.
    """

    weights: Floats
    bounds: tuple[Floats, Floats] | None


def _sharpened(luma: Floats, weights: Floats, gain: float) -> Floats:
    """`luma` with more of what is `fine` in it where `weights` are small."""
    share = cv2.resize(weights, luma.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(luma + fine(luma) * ((1 - share) * gain))


def _lit(luma: Floats, gain: float) -> Floats:
    """`luma` times `gain`, above black; it is overwritten."""
    luma *= gain
    luma += BLACK * (1 - gain)
    return luma


def _correction(cells: Sequence[Floats], base: BaseLayer) -> tuple[float, Floats]:
    """The gain of luma above black, and the shift of U and V, by which `cells` have the colours of `base` in its ring.

    Cells in which both differ in more than light do not count, such as those that a jaw or a hand comes into. Where
    almost all do, there is no correction.
    """
    places, wanted = base.ring_colours
    if not len(places):
        return 1.0, np.zeros(2, np.float32)
    colours = np.vstack([*(plane.take(places) for plane in cells), wanted])
    first = _gain(colours[0].mean(), colours[3].mean())
    same = np.abs((colours[0] - BLACK) * first + BLACK - colours[3]) < SAME
    if np.count_nonzero(same) < LEAST_SAME * len(same):
        return 1.0, np.zeros(2, np.float32)
    y, u, v, wanted_y, wanted_u, wanted_v = (colours @ same / np.count_nonzero(same)).tolist()
    shift = np.array([wanted_u - u, wanted_v - v], np.float32)
    return min(max(_gain(y, wanted_y), 1 / MAX_GAIN), MAX_GAIN), np.clip(shift, -MAX_SHIFT, MAX_SHIFT)


def _gain(luma: float, wanted: float) -> float:
    return float(max(wanted - BLACK, DIM) / max(luma - BLACK, DIM))
