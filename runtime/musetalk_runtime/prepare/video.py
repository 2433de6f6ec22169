"""A video or photo as upright RGB frames of even size at a constant rate."""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.error
import av.video
import cv2
import numpy as np

from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia, MachineError
from musetalk_runtime.core.file_part import FilePart
from musetalk_runtime.core.joined import beginnings
from musetalk_runtime.core.media import best_stream, open_media, several
from musetalk_runtime.prepare.colour import BLACK, Colour, has_alpha, on_background, to_premultiplied, to_rgb
from musetalk_runtime.prepare.heif import heif_format, read_heif
from musetalk_runtime.prepare.orientation import UPRIGHT, Orientation, of_angle, of_matrix
from musetalk_runtime.prepare.photo import decode_photo, is_animated_webp, photo_bytes
from musetalk_runtime.prepare.resample import STILL_RATE, nearest_frames, resample

MAX_PIXELS = 4096 * 4096
MIN_SIDE, MAX_SIDE = 32, 16384  # the latter is libx264's
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave out the alpha
BEGINS_AGAIN_S = 0.5  # seconds that a timestamp goes back by where another file was joined
# Only formats that hold pictures in one file: a playlist would open other files, and text is a video to FFmpeg.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,h264,hevc,m4v,gif,apng,"
    "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
DECLARING = {"mov", "matroska", "flv", "avi"}  # their headers state how long the streams are


Look = Callable[[RGB, int], None]
"""Called with each frame of a file, RGB ``[height, width, 3]``, and with how many the file says there are."""


class VideoSource:
    """Frames of a video or photo, read as often as needed and never held all at once.

    Attributes: ``width`` and ``height`` (even, pixels), ``fps``, ``indexes`` (for each frame the number it has in the
    file), ``start`` (seconds, when the first is shown), ``cut`` (whether it is longer than `max_seconds`, and only its
    beginning is used), ``scale`` (of its pixels to the file's, below 1 where the file's longer side has more than
    `max_side`), ``transparent`` (whether it has alpha), ``warnings``. Odd sizes lose their last column or row,
    pixels are made square, the file's rotation and mirroring are applied. A photo is one frame. Of several video tracks
    it is the one that players choose.
    """

    def __init__(
        self,
        path: Path,
        max_seconds: float,
        fps: Fraction | None = None,
        max_side: int | None = None,
        look: Look | None = None,
        background: Colour | None = None,
    ) -> None:
        """Decode the whole file once, to know its timing and that it is sound; `look` is shown each of its frames.

        Transparent parts show the `background`. Without one they are black in photos, and videos are opaque.
        The frames are those of the file where its rate is steady, or for each tick of `fps` the one nearest in time.
        Raises InputNotFound or InvalidMedia.
        """
        if not path.is_file():
            raise InputNotFound(f"{path}: no such file")
        self._path, self._background = path, background
        self.transparent = False
        self._still: Bytes | None = None
        self._end: int | None = None
        self.scale = 1.0
        self.warnings: list[str] = []
        times, rate, self.cut, full = [0.0], STILL_RATE, False, _heif(path)
        if full is None:
            photo = photo_bytes(path)
            if photo is None and len(begins := beginnings(path)) > 1:
                self._end = begins[1]
                self.warnings.append(f"{path}: what follows its byte {self._end} is another file, which is not shown")
            with _open(path, photo, self._end) as (container, stream):
                if photo or _is_photo(container):
                    full = _still(path, photo or path.read_bytes(), container, stream)
                else:
                    times, self.cut = self._scan(container, stream, max_seconds, max_side, look)
                    rate = stream.average_rate or STILL_RATE
                if warning := several(container, "video", stream):
                    self.warnings.append(f"{path}: {warning}")
        if full is not None:
            self.transparent = full.shape[2] == 4 and int(full[..., 3].min()) < 255
            full = full[..., :3] if background is None else full
            self._set_size(full, max_side)
            self._still = even(_shrink(full, self.scale))
            if look:
                look(self._shown(self._still), 1)
        if background is not None and not self.transparent:
            self.warnings.append(f"{path}: nothing of it is transparent, so --background changes nothing")
        self.start = times[0]
        if fps is not None:
            self.fps, self.indexes = fps, nearest_frames(times, fps)
        else:
            self.fps, self.indexes = resample(times, rate) if full is None else (STILL_RATE, [0])
        del self.indexes[max(1, int(max_seconds * self.fps)) :]

    def __len__(self) -> int:
        return len(self.indexes)

    def frames(self) -> Iterator[RGB]:
        """Every frame in turn, RGB ``[height, width, 3]``."""
        return map(self._shown, self.pictures())

    def pictures(self) -> Iterator[Bytes]:
        """As `frames`, with transparency and no background where there is any: premultiplied RGBA."""
        if self._still is not None:
            yield self._still
            return
        position = 0
        with _open(self._path, end=self._end) as (container, stream):
            for index, frame in enumerate(self._decode(container, stream)):
                if index != self.indexes[position]:
                    continue
                picture = self._picture(index, frame, stream)
                while position < len(self.indexes) and self.indexes[position] == index:
                    yield picture
                    position += 1
                if position == len(self.indexes):
                    return
        raise InvalidMedia(f"{self._path}: it became shorter while it was read")

    def _scan(
        self,
        container: av.container.InputContainer,
        stream: av.video.VideoStream,
        max_seconds: float,
        max_side: int | None,
        look: Look | None,
    ) -> tuple[list[float], bool]:
        """When each frame appears, and whether there are more than `max_seconds` of them."""
        times: list[float] = []
        shift = 0.0  # of a file that was joined to one before it, and begins again
        interval = float(1 / (stream.average_rate or STILL_RATE))
        lasts = interval
        for index, frame in enumerate(self._decode(container, stream)):
            if not times:
                self.transparent = has_alpha(frame.format)
                self._set_size(_upright(frame, stream), max_side)
            previous = times[-1] if times else 0.0
            time = previous + interval if frame.time is None else frame.time + shift
            if times and time < previous - BEGINS_AGAIN_S:
                if not shift:
                    self.warnings.append(f"{self._path}: its timestamps begin again after {previous - times[0]:.1f} s")
                lasts = lasts or (previous - times[0]) / max(1, len(times) - 1)
                shift, time = shift + previous + lasts - time, previous + lasts
            times.append(max(time, previous) if times else time)
            lasts = float((frame.duration or 0) * (frame.time_base or 0))
            if times[-1] - times[0] >= max_seconds:
                return times[:-1], True
            if look:
                most = int(max_seconds / interval)
                look(
                    self._shown(self._picture(index, frame, stream)),
                    max(index + 1, min(stream.frames or index + 1, most)),
                )
        if not times:
            raise InvalidMedia(f"{self._path}: it holds no frame")
        _check_length(self._path, container, stream, times[-1] + max(interval, lasts))
        return times, False

    def _set_size(self, full: Bytes, max_side: int | None) -> None:
        """Of the frames, by the size of one in the file; raises InvalidMedia if it is too small or too long."""
        if max_side and max(full.shape[:2]) > max_side:
            self.scale = max_side / max(full.shape[:2])
        self.height, self.width = (_scaled(side, self.scale) & ~1 for side in full.shape[:2])
        if min(self.width, self.height) < MIN_SIDE:
            size = f"{self.width}x{self.height} pixels"
            raise InvalidMedia(f"{self._path}: {size}, expected at least {MIN_SIDE}x{MIN_SIDE}")
        if max(self.width, self.height) > MAX_SIDE:
            size = f"{self.width}x{self.height} pixels"
            raise InvalidMedia(f"{self._path}: {size}, expected at most {MAX_SIDE} a side: scale it down first")

    def _decode(self, container: av.container.InputContainer, stream: av.video.VideoStream) -> Iterator[av.VideoFrame]:
        decoder = ALPHA_DECODERS.get(stream.codec_context.name)
        if self._background is not None and decoder and stream.metadata.get("alpha_mode") == "1":
            return _decode_alpha(self._path, container, stream, decoder)
        return _decode(self._path, container, stream)

    def _shown(self, picture: Bytes) -> RGB:
        return on_background(picture, self._background or BLACK)

    def _picture(self, index: int, frame: av.VideoFrame, stream: av.video.VideoStream) -> Bytes:
        picture = even(_upright(frame, stream, self.scale, self._background is not None))
        if picture.shape[:2] != (self.height, self.width):
            raise InvalidMedia(f"{self._path}: the frame size changes at frame {index}: convert it to one size")
        return picture


def even(rgb: Bytes) -> Bytes:
    """The picture without its last column or row where their number is odd, contiguous in memory."""
    return np.ascontiguousarray(rgb[: rgb.shape[0] & ~1, : rgb.shape[1] & ~1])


@contextmanager
def _open(
    path: Path, photo: bytes | None = None, end: int | None = None
) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    """The file at `path` up to its byte `end`, or the `photo` that was found in it."""
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
        yield container, stream


def _heif(path: Path) -> Bytes | None:
    """The picture of a HEIC or AVIF photo, None for what FFmpeg reads; raises InvalidMedia for an animated WebP."""
    with path.open("rb") as file:
        head = file.read(512)
    if is_animated_webp(head):
        raise InvalidMedia(f"{path}: an animated WebP: make a video of it, or save one of its pictures")
    return read_heif(path, path.read_bytes(), MAX_PIXELS) if heif_format(head) else None


def _is_photo(container: av.container.InputContainer) -> bool:
    return container.format.name == "image2" or container.format.name.endswith("_pipe")


def _still(path: Path, data: bytes, container: av.container.InputContainer, stream: av.video.VideoStream) -> Bytes:
    """The picture of the photo `data`, once FFmpeg has found it sound."""
    if next(_decode(path, container, stream), None) is None:
        raise InvalidMedia(f"{path}: it holds no frame")
    return decode_photo(path, data)


def _check_length(path: Path, container: av.container.InputContainer, stream: av.video.VideoStream, end: float) -> None:
    """Raise InvalidMedia when a file ends well before the length its header states."""
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
        raise InvalidMedia(f"{path}: truncated: {stated:.1f} s long by its header, {end:.1f} s are there")


def _decode(
    path: Path, container: av.container.InputContainer, stream: av.video.VideoStream
) -> Iterator[av.VideoFrame]:
    try:
        yield from container.decode(stream)
    except av.error.FFmpegError as error:
        _check_memory(error)
        raise InvalidMedia(f"{path}: truncated or damaged: {error.strerror}") from error
    except IndexError:  # PyAV's, for a stream that was not there in the beginning
        raise InvalidMedia(f"{path}: another stream begins in the middle of it: convert it") from None


def _decode_alpha(
    path: Path, container: av.container.InputContainer, stream: av.video.VideoStream, name: str
) -> Iterator[av.VideoFrame]:
    """The frames with their transparency, by the decoder `name`; raises MachineError where there is none."""
    try:
        decoder: Any = av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        raise MachineError(f"{path}: PyAV's FFmpeg has no {name}, to read its transparency: pip install av") from None
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        for packet in container.demux(stream):
            yield from decoder.decode(packet)
    except av.error.FFmpegError as error:
        _check_memory(error)
        raise InvalidMedia(f"{path}: truncated or damaged: {error.strerror}") from error


def _check_memory(error: OSError | av.error.FFmpegError) -> None:
    """Raise MemoryError where FFmpeg could not start its threads, or had no room: that is no fault of the file."""
    if error.errno in {errno.EAGAIN, errno.ENOMEM}:
        raise MemoryError from error


def _upright(
    frame: av.VideoFrame, stream: av.video.VideoStream, scale: float = 1.0, transparent: bool = False
) -> Bytes:
    width = round(frame.width * (stream.sample_aspect_ratio or Fraction(1)))
    convert = to_premultiplied if transparent else to_rgb
    return _orientation(frame).applied(convert(frame, _scaled(width, scale), _scaled(frame.height, scale)))


def _orientation(frame: av.VideoFrame) -> Orientation:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it is something that PyAV does not know, such as EXIF or the second view of a film
        return of_angle(frame.rotation)
    return UPRIGHT if matrix is None else of_matrix(bytes(cast("Any", matrix)))


def _scaled(side: int, scale: float) -> int:
    return max(2, round(side * scale))


def _shrink(rgb: Bytes, scale: float) -> Bytes:
    height, width = rgb.shape[:2]
    if scale == 1:
        return rgb
    small: Bytes = cv2.resize(rgb, (_scaled(width, scale), _scaled(height, scale)), interpolation=cv2.INTER_AREA)
    return small
