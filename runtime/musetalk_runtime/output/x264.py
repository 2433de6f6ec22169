"""The libx264 encoder, tuned for no latency."""

import math
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.video import Picture, VideoOptions

QUANTIZER = "20"  # of constant quality, and the least of a steered rate; crf takes a fifth more time


class X264:
    """One stream of a container. See ``Encoder``. Raises MachineError where PyAV was built without libx264."""

    name = "x264"

    def __init__(self, container: OutputContainer, picture: Picture, options: VideoOptions) -> None:
        self._fps, self._steered = picture.fps, options.steered
        stream = add_x264(container, picture.fps)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "nv12"
        stream.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "g": str(round(picture.fps)),
            "sc_threshold": "0",
            "forced-idr": "1",
            **_x264_rate(options),
        }
        context = stream.codec_context
        context.thread_count = min(options.threads, math.ceil(available_cores()))
        context.time_base = 1 / picture.fps
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream

    def encode(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        picture: Any = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(nv12), format="nv12")
        picture.pts, picture.time_base = index, 1 / self._fps
        if keyframe:
            picture.pict_type = av.video.frame.PictureType.I
        packets: list[Any] = self._stream.encode(picture)
        return packets

    def steer(self, kbps: int) -> None:
        if self._steered:  # FFmpeg hands it on with the next frame
            self._stream.codec_context.bit_rate = kbps * 1000

    def finish(self) -> list[Any]:
        packets: list[Any] = self._stream.encode(None)
        return packets


def add_x264(container: OutputContainer, fps: Fraction) -> Any:
    """A stream of `container` that libx264 encodes; raises MachineError where PyAV was built without it."""
    if not has_x264():
        raise MachineError(
            "this PyAV was built without libx264: H.264 needs NVENC here, which 'musetalk-edge doctor' looks for"
        )
    return container.add_stream("libx264", rate=fps)


def has_x264() -> bool:
    """Whether PyAV has libx264. PyPI's has."""
    return "libx264" in av.codecs_available


def _x264_rate(options: VideoOptions) -> dict[str, str]:
    if options.kbps is None:
        return {"qp": QUANTIZER}
    if options.steered:  # libx264 changes the rate only where it is its peak, and without HRD
        most = f"{options.kbps}k"
        return {"b": most, "maxrate": most, "bufsize": f"{options.kbps // 2}k", "qmin": QUANTIZER}
    rates = {"b": f"{options.kbps}k", "maxrate": f"{options.peak_kbps}k", "bufsize": f"{options.kbps // 2}k"}
    return {**rates, "nal-hrd": "cbr"} if options.constant else rates
