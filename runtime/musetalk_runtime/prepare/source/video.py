"""A video or photo as upright RGB frames of even size at a constant rate."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia
from musetalk_runtime.core.joined import beginnings
from musetalk_runtime.prepare.source.colour import BLACK, Colour, has_alpha, on_background
from musetalk_runtime.prepare.source.frame_times import FrameTimes
from musetalk_runtime.prepare.source.heif import heif_format, read_heif
from musetalk_runtime.prepare.source.photo import decode_photo, is_animated_webp, photo_bytes
from musetalk_runtime.prepare.source.resample import STILL_RATE, nearest_frames, resample
from musetalk_runtime.prepare.source.video_file import MAX_PIXELS, VideoFile, open_video, scaled

MIN_SIDE, MAX_SIDE = 32, 16384  # the latter is libx264's


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
        self.cut = False
        times, rate, full = [0.0], STILL_RATE, _heif(path)
        if full is None:
            photo = photo_bytes(path)
            if photo is None and len(begins := beginnings(path)) > 1:
                self._end = begins[1]
                self.warnings.append(f"{path}: what follows its byte {self._end} is another file, which is not shown")
            with open_video(path, photo, self._end) as file:
                if photo or file.is_photo:
                    if next(file.frames(transparent=False), None) is None:
                        raise InvalidMedia(f"{path}: it holds no frame")
                    full = decode_photo(path, photo or path.read_bytes())  # FFmpeg has found it sound
                else:
                    times = self._scan(file, max_seconds, max_side, look)
                    rate = file.rate or STILL_RATE
                if file.warning:
                    self.warnings.append(f"{path}: {file.warning}")
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
        with open_video(self._path, end=self._end) as file:
            for index, frame in enumerate(file.frames(self._background is not None)):
                if index != self.indexes[position]:
                    continue
                picture = self._picture(index, frame, file)
                while position < len(self.indexes) and self.indexes[position] == index:
                    yield picture
                    position += 1
                if position == len(self.indexes):
                    return
        raise InvalidMedia(f"{self._path}: it became shorter while it was read")

    def _scan(self, file: VideoFile, max_seconds: float, max_side: int | None, look: Look | None) -> list[float]:
        """When each frame of the first `max_seconds` appears."""
        interval = float(1 / (file.rate or STILL_RATE))
        times = FrameTimes(interval)
        most = int(max_seconds / interval)
        for index, frame in enumerate(file.frames(self._background is not None)):
            if not index:
                self.transparent = has_alpha(frame.format)
                self._set_size(file.upright(frame), max_side)
            times.add(frame)
            if times.span >= max_seconds:
                self.cut = True
                del times.seconds[-1]
                break
            if look:
                total = max(index + 1, min(file.frame_count or index + 1, most))
                look(self._shown(self._picture(index, frame, file)), total)
        else:
            if not times.seconds:
                raise InvalidMedia(f"{self._path}: it holds no frame")
            file.check_length(times.end)
        if times.begins_again is not None:
            self.warnings.append(f"{self._path}: its timestamps begin again after {times.begins_again:.1f} s")
        return times.seconds

    def _set_size(self, full: Bytes, max_side: int | None) -> None:
        """Of the frames, by the size of one in the file; raises InvalidMedia if it is too small or too long."""
        if max_side and max(full.shape[:2]) > max_side:
            self.scale = max_side / max(full.shape[:2])
        self.height, self.width = (scaled(side, self.scale) & ~1 for side in full.shape[:2])
        if min(self.width, self.height) < MIN_SIDE:
            size = f"{self.width}x{self.height} pixels"
            raise InvalidMedia(f"{self._path}: {size}, expected at least {MIN_SIDE}x{MIN_SIDE}")
        if max(self.width, self.height) > MAX_SIDE:
            size = f"{self.width}x{self.height} pixels"
            raise InvalidMedia(f"{self._path}: {size}, expected at most {MAX_SIDE} a side: scale it down first")

    def _shown(self, picture: Bytes) -> RGB:
        return on_background(picture, self._background or BLACK)

    def _picture(self, index: int, frame: av.VideoFrame, file: VideoFile) -> Bytes:
        picture = even(file.upright(frame, self.scale, self._background is not None))
        if picture.shape[:2] != (self.height, self.width):
            raise InvalidMedia(f"{self._path}: the frame size changes at frame {index}: convert it to one size")
        return picture


def even(rgb: Bytes) -> Bytes:
    """The picture without its last column or row where their number is odd, contiguous in memory."""
    return np.ascontiguousarray(rgb[: rgb.shape[0] & ~1, : rgb.shape[1] & ~1])


def _heif(path: Path) -> Bytes | None:
    """The picture of a HEIC or AVIF photo, None for what FFmpeg reads; raises InvalidMedia for an animated WebP."""
    with path.open("rb") as file:
        head = file.read(512)
    if is_animated_webp(head):
        raise InvalidMedia(f"{path}: an animated WebP: make a video of it, or save one of its pictures")
    return read_heif(path, path.read_bytes(), MAX_PIXELS) if heif_format(head) else None


def _shrink(rgb: Bytes, scale: float) -> Bytes:
    height, width = rgb.shape[:2]
    if scale == 1:
        return rgb
    small: Bytes = cv2.resize(rgb, (scaled(width, scale), scaled(height, scale)), interpolation=cv2.INTER_AREA)
    return small
