"""The muxer of WebM: VP9, with the transparency of frames that have any, and Opus."""

from contextlib import suppress
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from musetalk_runtime.audio.chunk import SOUND_RATE, audio_frame
from musetalk_runtime.core.arrays import NV12, Bytes
from musetalk_runtime.core.errors import InvalidArgument, MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import MAX_BUFFER_BYTES
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions
from musetalk_runtime.output.writable import Writable

VIDEO, AUDIO = "libvpx-vp9", "libopus"
QUALITY = "24"  # libvpx's crf, 0 to 63
SPEED = {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "auto-alt-ref": "0", "lag-in-frames": "0"}
OPUS_BITS = 64_000  # a second and channel
BLACK, GREY = 16, 128  # of luma and of chroma, in limited range


class WebmMuxer:
    """Encodes and muxes one video and one audio track, as ``Muxer`` does. Its video has alpha if the first frame has.

    Raises InvalidArgument for the options of another encoder, and MachineError where PyAV's FFmpeg has no VP9 or Opus.
    """

    encoder = VIDEO

    def __init__(
        self,
        target: Writable,
        container: str,
        picture: Picture,
        channels: int,
        options: VideoOptions,
        timings: Timings | None = None,
    ) -> None:
        if options.encoder != "auto":
            raise InvalidArgument(f"--encoder {options.encoder} is for H.264, and WebM has VP9: leave it out")
        self._picture, self._options = picture, options
        self._timings = timings or Timings()
        self._layout = "stereo" if channels == 2 else "mono"
        self._samples = 0
        self._video: Any = None
        self._container: Any = av.open(
            target, "w", format=container, options={"flush_packets": "1"}, buffer_size=MAX_BUFFER_BYTES
        )

    def __enter__(self) -> "WebmMuxer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind is not GeneratorExit:
            self._release()
            return
        if self._video is None:  # there was no frame
            self._release()
            return
        self._container.mux(self._video.encode(None) + (self._audio.encode(None) if self._samples else []))
        self._container.close()

    def put(
        self,
        frame: Frame,
        keyframe: bool = False,
        kbps: int | None = None,  # noqa: ARG002
        more: bool = False,  # noqa: ARG002
    ) -> list[AccessUnit]:
        """Encode and mux `frame` and its sound; `keyframe` makes it one out of turn. Gives nothing: it is no H.264."""
        if self._video is None:
            self._open(frame.alpha is not None)
        with self._timings.measure("encode_sound"):
            sound = self._encode_sound(frame)
        with self._timings.measure("encode"):
            picture = _picture(frame.nv12, frame.alpha)
            picture.pts, picture.time_base = frame.index, 1 / self._picture.fps
            if keyframe:
                picture.pict_type = av.video.frame.PictureType.I
            video = self._video.encode(picture)
        with self._timings.measure("mux"):
            self._container.mux(sound + video)
        return []

    def _open(self, transparent: bool) -> None:
        rate = {"crf": QUALITY, "b": "0"} if self._options.kbps is None else {"b": f"{self._options.kbps}k"}
        if self._options.constant:
            rate |= {"minrate": rate["b"], "maxrate": rate["b"]}
        try:
            self._video = self._container.add_stream(VIDEO, self._picture.fps, {**SPEED, **rate})
            self._audio = self._container.add_stream(AUDIO, SOUND_RATE, layout=self._layout)
        except av.codec.codec.UnknownCodecError as error:
            raise MachineError(f"PyAV's FFmpeg has no {error}: pip install av") from None
        self._video.width, self._video.height = self._picture.width, self._picture.height
        self._video.pix_fmt = "yuva420p" if transparent else "yuv420p"
        context = self._video.codec_context
        context.time_base, context.gop_size = 1 / self._picture.fps, round(self._picture.fps)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.thread_count = self._options.threads
        self._audio.bit_rate = OPUS_BITS * (2 if self._layout == "stereo" else 1)

    def _encode_sound(self, frame: Frame) -> list[Any]:
        if not frame.sound.shape[1]:
            return []
        sound = audio_frame(frame.sound, SOUND_RATE, self._samples)
        self._samples += frame.sound.shape[1]
        packets: list[Any] = self._audio.encode(sound)
        return packets

    def _release(self) -> None:
        with suppress(av.FFmpegError, OSError):
            self._container.close()


def _picture(nv12: NV12, alpha: Bytes | None) -> Any:
    """An NV12 frame as planes; one whose colours are times `alpha` with that, and its colours divided by it."""
    height, width = nv12.shape[0] * 2 // 3, nv12.shape[1]
    luma, chroma = nv12[:height], nv12[height:].reshape(height // 2, width // 2, 2)
    if alpha is None:
        picture: Any = av.VideoFrame(width, height, "yuv420p")
        planes = [luma, chroma[..., 0], chroma[..., 1]]
    else:
        picture = av.VideoFrame(width, height, "yuva420p")
        quarter = alpha.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3), dtype=np.float32)
        luma, chroma = _divided(luma, alpha, BLACK), _divided(chroma, quarter[..., None], GREY)
        planes = [luma, chroma[..., 0], chroma[..., 1], alpha]
    for plane, content in zip(picture.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(content.shape[0], -1)
        rows[:, : content.shape[1]] = content
    return picture


def _divided(values: Bytes, alpha: Any, zero: int) -> Bytes:
    """The distance of `values` from `zero` divided by `alpha`, 0 to 255; `zero` where that is 0."""
    opacity = np.maximum(np.float32(1), alpha) / np.float32(255)
    return np.asarray(np.clip(np.rint((values - np.float32(zero)) / opacity + zero), 16, 240), np.uint8)
