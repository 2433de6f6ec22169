"""The writers of an avatar's frames and of their transparency, as H.264 with keyframes only."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import av
import numpy as np

from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.prepare.colour import tag_bt709, to_yuv420p

# Without CABAC and deblocking (fastdecode) a frame decodes three times as fast, for a tenth more bytes.
OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "g": "1", "bf": "0"}


class FrameWriter:
    """A video file being written: BT.709 limited range, visually lossless. A context manager: leaving it closes."""

    quality: ClassVar = {"crf": "18"}

    def __init__(self, path: Path, width: int, height: int, fps: Fraction) -> None:
        self._container = av.open(f"file:{path}", "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=fps, options={**self.quality, **OPTIONS})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        tag_bt709(self._stream.codec_context)
        self._count = 0

    def write(self, rgb: RGB) -> None:
        """Append one frame, RGB ``[H, W, 3]``."""
        self._append(to_yuv420p(rgb))

    def _append(self, frame: av.VideoFrame) -> None:
        frame.pts = self._count
        frame.time_base = 1 / Fraction(self._stream.codec_context.framerate)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class AlphaWriter(FrameWriter):
    """A video file of planes in its luma, without any loss."""

    quality: ClassVar = {"qp": "0"}

    def write(self, plane: Bytes) -> None:
        """Append one plane ``[H, W]``."""
        grey = np.full((plane.shape[0] // 2, plane.shape[1]), 128, np.uint8)
        self._append(av.VideoFrame.from_ndarray(np.concatenate([plane, grey]), format="yuv420p"))
