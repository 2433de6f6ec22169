"""A file with a video or a photo, as FFmpeg decodes it."""

import errno
import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.error
import av.video

from musetalk_runtime.core.arrays import Bytes
from musetalk_runtime.core.errors import InvalidMedia, MachineError
from musetalk_runtime.core.file_part import FilePart
from musetalk_runtime.core.media import best_stream, open_media, several
from musetalk_runtime.prepare.source.colour import to_premultiplied, to_rgb
from musetalk_runtime.prepare.source.orientation import UPRIGHT, Orientation, of_angle, of_matrix

MAX_PIXELS = 4096 * 4096
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave out the alpha
# Only formats that hold pictures in one file: a playlist would open other files, and text is a video to FFmpeg.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,h264,hevc,m4v,gif,apng,"
    "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
DECLARING = {"mov", "matroska", "flv", "avi"}  # their headers state how long the streams are


class VideoFile:
    """The file at `path`, opened by `open_video`. Its frames can be read once.

    Attributes: ``rate`` (frames a second, by its header; None where that says nothing), ``frame_count`` (by its header;
    0), ``is_photo``, ``warning`` (what is not shown of it, in words; empty).
    """

    def __init__(self, path: Path, container: av.container.InputContainer, stream: av.video.VideoStream) -> None:
        self._path, self._container, self._stream = path, container, stream
        self.rate, self.frame_count = stream.average_rate, stream.frames
        self.is_photo = container.format.name == "image2" or container.format.name.endswith("_pipe")
        self.warning = several(container, "video", stream)

    def frames(self, transparent: bool) -> Iterator[av.VideoFrame]:
        """Its frames in turn, with their transparency where there is any and it is wanted. Raises InvalidMedia.

        Raises MachineError where FFmpeg has no decoder for the transparency.
        """
        name = ALPHA_DECODERS.get(self._stream.codec_context.name)
        alpha = transparent and name and self._stream.metadata.get("alpha_mode") == "1"
        try:
            yield from self._with_alpha(name) if alpha and name else self._container.decode(self._stream)
        except av.error.FFmpegError as error:
            _check_memory(error)
            raise InvalidMedia(f"{self._path}: truncated or damaged: {error.strerror}") from error
        except IndexError:  # PyAV's, for a stream that was not there in the beginning
            raise InvalidMedia(f"{self._path}: another stream begins in the middle of it: convert it") from None

    def upright(self, frame: av.VideoFrame, scale: float = 1.0, transparent: bool = False) -> Bytes:
        """The picture of `frame`, upright, with square pixels, `scale` times as large: RGB, or premultiplied RGBA."""
        width = round(frame.width * (self._stream.sample_aspect_ratio or Fraction(1)))
        convert = to_premultiplied if transparent else to_rgb
        return _orientation(frame).applied(convert(frame, scaled(width, scale), scaled(frame.height, scale)))

    def check_length(self, end: float) -> None:
        """Raise InvalidMedia when the file ends, at `end` seconds, well before the length its header states."""
        container, stream = self._container, self._stream
        if container.format.name == "avi" and stream.frames and stream.average_rate:
            # Its duration is that of what is there.
            stated = float(stream.frames / stream.average_rate)
        elif stream.duration is not None and stream.time_base is not None:
            stated = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        elif container.duration is not None and len(container.streams) == 1:
            stated = container.duration / av.time_base
        else:
            return
        if DECLARING & set(container.format.name.split(",")) and end < stated - max(0.5, 0.02 * stated):
            raise InvalidMedia(f"{self._path}: truncated: {stated:.1f} s long by its header, {end:.1f} s are there")

    def _with_alpha(self, name: str) -> Iterator[av.VideoFrame]:
        try:
            decoder: Any = av.CodecContext.create(name, "r")
        except av.codec.codec.UnknownCodecError:
            missing = f"PyAV's FFmpeg has no {name}, to read its transparency: pip install av"
            raise MachineError(f"{self._path}: {missing}") from None
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        for packet in self._container.demux(self._stream):
            yield from decoder.decode(packet)


@contextmanager
def open_video(path: Path, photo: bytes | None = None, end: int | None = None) -> Iterator[VideoFile]:
    """Open the file at `path` up to its byte `end`, or the `photo` that was found in it. Raises InvalidMedia."""
    with ExitStack() as opened:
        source: Path | io.BytesIO | FilePart = io.BytesIO(photo) if photo else path
        if end is not None:
            source = opened.enter_context(closing(FilePart(path, 0, end, {})))
        try:
            container = opened.enter_context(open_media(source, FORMATS, max_pixels=str(MAX_PIXELS)))
        except (av.error.FFmpegError, OSError) as error:
            _check_memory(error)
            reason = "unknown format" if isinstance(error, av.error.ArgumentError) else error.strerror
            raise InvalidMedia(f"{path}: not a readable video or photo: {reason}") from None
        if not container.streams.video:
            raise InvalidMedia(f"{path}: it holds no video")
        stream = best_stream(container, "video")
        context = stream.codec_context
        if context is None or not 0 < context.width * context.height <= MAX_PIXELS:
            raise InvalidMedia(f"{path}: truncated, or more than 4096x4096 pixels: then scale it down first")
        context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        yield VideoFile(path, container, stream)


def scaled(side: int, scale: float) -> int:
    """The length of a `side` in pixels, `scale` times as long: 2 at least."""
    return max(2, round(side * scale))


def _orientation(frame: av.VideoFrame) -> Orientation:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it is something that PyAV does not know, such as EXIF or the second view of a film
        return of_angle(frame.rotation)
    return UPRIGHT if matrix is None else of_matrix(bytes(cast("Any", matrix)))


def _check_memory(error: OSError | av.error.FFmpegError) -> None:
    """Raise MemoryError where FFmpeg could not start its threads, or had no room: that is no fault of the file."""
    if error.errno in {errno.EAGAIN, errno.ENOMEM}:
        raise MemoryError from error
