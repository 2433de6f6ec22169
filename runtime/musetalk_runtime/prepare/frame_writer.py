"""The writers of an avatar's frames and of their transparency, as H.264 with keyframes only."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import av
import numpy as np

from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.nvenc import Nvenc
from musetalk_runtime.output.video import LEAST_KBPS, MOST_KBPS, Picture, VideoOptions
from musetalk_runtime.output.x264 import add_x264, has_x264
from musetalk_runtime.prepare.source.colour import tag_bt709, to_yuv420p

# Without CABAC and deblocking (fastdecode) a frame decodes three times as fast, for a tenth more bytes.
OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "g": "1", "bf": "0"}
NVENC_BITS_A_PIXEL = 1.5  # of keyframes


class FrameWriter:
    """A video file being written: BT.709 limited range, visually lossless. A context manager: leaving it closes.

    By libx264, or where PyAV was built without it by NVENC. Raises MachineError where there is neither.
    """

    quality: ClassVar = {"crf": "18"}

    def __init__(self, path: Path, width: int, height: int, fps: Fraction) -> None:
        self._fps, self._count = fps, 0
        self._container = av.open(f"file:{path}", "w", format="mp4")
        try:
            self._nvenc = None if has_x264() else self._open_nvenc(Picture(width, height, fps))
        except BaseException:
            self._container.close()
            raise
        self._stream: Any = None
        if self._nvenc is None:
            self._stream = add_x264(self._container, fps)
            self._stream.options = {**self.quality, **OPTIONS}
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            tag_bt709(self._stream.codec_context)

    def write(self, rgb: RGB) -> None:
        """Append one frame, RGB ``[H, W, 3]``."""
        self._append(to_yuv420p(rgb))

    def _open_nvenc(self, picture: Picture) -> Nvenc:
        kbps = round(picture.width * picture.height * picture.fps * NVENC_BITS_A_PIXEL / 1000)
        try:
            return Nvenc(self._container, picture, VideoOptions("nvenc", min(max(kbps, LEAST_KBPS), MOST_KBPS)))
        except MachineError as error:
            raise MachineError(f"this PyAV was built without libx264, and {error}") from error

    def _append(self, frame: av.VideoFrame) -> None:
        if self._nvenc:
            nv12: Any = frame.to_ndarray(format="nv12")
            packets = self._nvenc.encode(self._count, nv12, keyframe=True)
        else:
            frame.pts, frame.time_base = self._count, 1 / self._fps
            packets = self._stream.encode(frame)
        self._count += 1
        self._container.mux(packets)

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._nvenc.finish() if self._nvenc else self._stream.encode(None))
        finally:
            self._container.close()


class AlphaWriter(FrameWriter):
    """A video file of planes in its luma, without any loss, which NVENC does not promise."""

    quality: ClassVar = {"qp": "0"}

    def write(self, plane: Bytes) -> None:
        """Append one plane ``[H, W]``."""
        grey = np.full((plane.shape[0] // 2, plane.shape[1]), 128, np.uint8)
        self._append(av.VideoFrame.from_ndarray(np.concatenate([plane, grey]), format="yuv420p"))

    def _open_nvenc(self, _: Picture) -> Nvenc:
        raise MachineError("transparency is kept by libx264, which this PyAV was built without")
