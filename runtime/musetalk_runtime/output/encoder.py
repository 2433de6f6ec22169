"""H.264 encoders: one small interface, libx264 on the CPU and NVENC on the GPU.

Every encoder makes a keyframe a second, more on demand, no B-frames, and gives a frame's packet at once.
"""

import logging
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from musetalk_runtime.errors import InvalidArgument, MachineError

log = logging.getLogger(__name__)

ENCODERS = ("auto", "nvenc", "x264")
LEAST_KBPS, MOST_KBPS = 50, 100_000


@dataclass(frozen=True)
class VideoOptions:
    """How to encode: `encoder` is one of ENCODERS; `kbps`, in kilobits a second, is the target, None for constant
    quality; `constant` keeps the rate constant, else it may rise by half for a moment. Raises InvalidArgument.
    """

    encoder: str = "auto"
    kbps: int | None = None
    constant: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise InvalidArgument(f"encoder {self.encoder!r}: expected one of {', '.join(ENCODERS)}")
        if self.kbps is not None and not LEAST_KBPS <= self.kbps <= MOST_KBPS:
            raise InvalidArgument(f"a bit rate of {self.kbps} kbit/s is out of range [{LEAST_KBPS}, {MOST_KBPS}]")
        if self.constant and self.kbps is None:
            raise InvalidArgument("a constant bit rate needs a bit rate")

    @property
    def peak_kbps(self) -> int | None:
        return self.kbps if self.constant or self.kbps is None else self.kbps * 3 // 2


@dataclass(frozen=True)
class Picture:
    """Width and height in pixels, both even, and frames a second."""

    width: int
    height: int
    fps: Fraction


class Encoder(Protocol):
    """Encodes the frames of one stream of a container; packets have the stream's times."""

    name: str

    def encode(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        """Packets of frame `index`, NV12 ``[H * 3 / 2, W]``; `keyframe` makes it one out of turn."""

    def finish(self) -> list[Any]:
        """What is left, at the end of the stream."""


def open_encoder(container: OutputContainer, picture: Picture, options: VideoOptions) -> Encoder:
    """Add a video stream to `container` and give its encoder.

    ``auto`` takes NVENC where it works and libx264 elsewhere, with a warning in the log where PyNvVideoCodec is
    installed in vain. Raises MachineError when NVENC is asked for and cannot be had.
    """
    from musetalk_runtime.output.nvenc import PACKAGE, Nvenc

    if options.encoder == "nvenc" or (options.encoder == "auto" and find_spec(PACKAGE)):
        try:
            return Nvenc(container, picture, options)
        except MachineError as error:
            if options.encoder == "nvenc":
                raise
            log.warning("%s; encoding with libx264", error)
    return X264(container, picture, options)


class X264:
    """libx264, tuned for no latency."""

    name = "x264"

    def __init__(self, container: OutputContainer, picture: Picture, options: VideoOptions) -> None:
        self._fps = picture.fps
        stream: Any = container.add_stream("libx264", rate=picture.fps)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        stream.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "g": str(round(picture.fps)),
            "sc_threshold": "0",
            "forced-idr": "1",
            **_x264_rate(options),
        }
        context = stream.codec_context
        context.time_base = 1 / picture.fps
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream

    def encode(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        picture: Any = av.VideoFrame.from_ndarray(nv12, format="nv12")
        picture.pts, picture.time_base = index, 1 / self._fps
        if keyframe:
            picture.pict_type = av.video.frame.PictureType.I
        packets: list[Any] = self._stream.encode(picture)
        return packets

    def finish(self) -> list[Any]:
        packets: list[Any] = self._stream.encode(None)
        return packets


def _x264_rate(options: VideoOptions) -> dict[str, str]:
    if options.kbps is None:
        return {"crf": "20"}
    rates = {"b": f"{options.kbps}k", "maxrate": f"{options.peak_kbps}k", "bufsize": f"{options.kbps // 2}k"}
    return {**rates, "nal-hrd": "cbr"} if options.constant else rates
