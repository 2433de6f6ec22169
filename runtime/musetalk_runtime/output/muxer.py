"""Frames and sound to a container, in small fragments a viewer can start from.

MP4 is fragmented: a fragment about every 100 ms, a keyframe every second, AAC at 48 kHz. Frame k has pts k / fps and
sound its sample count, so the two cannot drift.
"""

from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from musetalk_runtime.audio.source import SOUND_RATE
from musetalk_runtime.errors import OutputError

MP4_OPTIONS = {"movflags": "empty_moov+default_base_moof+frag_keyframe", "frag_duration": "100000"}
BUFFER = 1 << 18  # bytes handed over at once, at most
AAC_BITS = 96_000  # a second and channel
X264_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "sc_threshold": "0"}


class Writable(Protocol):
    """Anything whose ``write`` takes all it is given."""

    def write(self, data: bytes, /) -> Any: ...


class Muxer:
    """Encodes and muxes one video and one audio track to a writable object, or to a URL that PyAV opens.

    Frames and sound come in the order of their times. Leaving the ``with`` block writes what the encoders still hold
    and ends the container; after an error it only releases it. Raises OutputError for a URL that cannot be opened or
    written; what a writable object raises comes through as it is.
    """

    def __init__(
        self, target: Writable | str, container: str, width: int, height: int, fps: Fraction, channels: int
    ) -> None:
        self._target = target
        self._fps = fps
        self._samples = 0
        options = {"flush_packets": "1", **(MP4_OPTIONS if container == "mp4" else {})}
        self._container = av.open(target, "w", format=container, options=options, buffer_size=BUFFER)
        self._video = self._add_video(width, height)
        self._layout = "stereo" if channels == 2 else "mono"
        self._audio: Any = self._container.add_stream("aac", rate=SOUND_RATE, layout=self._layout)
        self._audio.bit_rate = AAC_BITS * channels
        try:
            self._checked("opened", self._container.start_encoding)
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> "Muxer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or kind is GeneratorExit:
            self._mux(self._video.encode(None))
            if self._samples:
                self._mux(self._audio.encode(None))
            self._checked("written", self._container.close)
        else:
            self._release()

    def frame(self, index: int, nv12: npt.NDArray[np.uint8]) -> None:
        """Encode frame `index`, NV12 ``[H * 3 / 2, W]``."""
        picture = av.VideoFrame.from_ndarray(nv12, format="nv12")
        picture.pts, picture.time_base = index, 1 / self._fps
        self._mux(self._video.encode(picture))

    def sound(self, samples: npt.NDArray[np.float32]) -> None:
        """Encode the next `samples` ``[channels, n]`` at 48 kHz."""
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._samples, Fraction(1, SOUND_RATE)
        self._samples += samples.shape[1]
        self._mux(self._audio.encode(frame))

    def _add_video(self, width: int, height: int) -> Any:
        stream: Any = self._container.add_stream("libx264", rate=self._fps)
        stream.options = {**X264_OPTIONS, "g": str(round(self._fps))}
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._fps
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            # AAC's priming packet lies before time 0. Sent, it would make FFmpeg shift the video by 21 ms; without it
            # the first 21 ms of sound are faded in.
            if packet.pts >= 0:
                self._checked("written", self._container.mux, packet)

    def _checked(self, what: str, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except av.FFmpegError as error:
            raise OutputError(f"{self._target}: cannot be {what}: {error.strerror}") from error

    def _release(self) -> None:
        with suppress(av.FFmpegError, OSError):
            self._container.close()
