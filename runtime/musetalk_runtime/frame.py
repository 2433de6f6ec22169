"""A finished frame of a stream."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
from musetalk_runtime.core.arrays import NV12, Bytes


@dataclass(frozen=True)
class Frame:
    """A finished frame, shown at ``pts`` seconds: exactly ``index / fps``.

    ``nv12`` is uint8 ``[H * 3 / 2, W]``, BT.709 in limited range, perhaps read-only; ``sound`` float32
    ``[channels, n]`` at 48 kHz, the audio to send with this frame, which runs a little ahead of the frames; ``alpha``
    uint8 ``[H, W]``, which the colours are multiplied by already, None for an avatar without transparency.
    """

    index: int
    pts: Fraction
    nv12: NV12
    sound: npt.NDArray[np.float32]
    alpha: Bytes | None = None

    def rgb(self) -> npt.NDArray[np.uint8]:
        """The frame as RGB ``[H, W, 3]``."""
        picture = av.VideoFrame.from_ndarray(self.nv12, format="nv12")
        rgb = picture.to_ndarray(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709")
        return rgb.astype(np.uint8, copy=False)


@dataclass(frozen=True)
class GpuFrame:
    """A frame as `Frame`, without ``alpha``, of which ``nv12`` lies on the GPU and is perhaps not finished yet.

    See ``DeviceFrame``.
    """

    index: int
    pts: Fraction
    nv12: "DeviceFrame"
    sound: npt.NDArray[np.float32]


def mixed(under: NV12, over: NV12, share: float) -> NV12:
    """`under` with a `share` of `over`, 0 to 1, on it: just `under` at 0."""
    if share <= 0:
        return under
    return np.rint(under + (over.astype(np.float32) - under) * share).astype(np.uint8)
