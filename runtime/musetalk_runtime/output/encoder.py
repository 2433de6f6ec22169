"""H.264 encoders: one small interface, libx264 on the CPU and NVENC on the GPU.

Every encoder makes a keyframe a second, more on demand, and no B-frames. libx264 gives a frame's packet at once, NVENC
when three more frames have come.
"""

import logging
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.nvenc import PACKAGE, Nvenc
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.output.x264 import X264, has_x264

log = logging.getLogger(__name__)

nvenc_tries: set[bool] = set()  # how they ended in this process: one that fails takes 0.4 s


class Encoder(Protocol):
    """Encodes the frames of one stream of a container; packets have the stream's times."""

    name: str

    def encode(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        """Packets of frame `index`, NV12 ``[H * 3 / 2, W]``; `keyframe` makes it one out of turn."""

    def steer(self, kbps: int) -> None:
        """Take so many kbit/s from the next frame on, at most, if the options are `steered`; NVENC does not."""

    def finish(self) -> list[Any]:
        """What is left, at the end of the stream."""


def open_encoder(container: OutputContainer, picture: Picture, options: VideoOptions) -> Encoder:
    """Add a video stream to `container` and give its encoder.

    ``auto`` takes NVENC where it works and libx264 elsewhere, with a warning in the log where PyNvVideoCodec is
    installed in vain; where it never worked, only the first stream tries it. Raises MachineError when NVENC is asked
    for and cannot be had, or when PyAV was built without libx264.
    """
    if options.encoder == "nvenc" or (options.encoder == "auto" and nvenc_tries != {False} and find_spec(PACKAGE)):
        try:
            encoder = Nvenc(container, picture, options)
        except MachineError as error:
            if options.encoder == "nvenc":
                raise
            nvenc_tries.add(False)
            if not has_x264():
                raise
            log.warning("%s; encoding with libx264", error)
        else:
            nvenc_tries.add(True)
            return encoder
    return X264(container, picture, options)
