"""The writer of a drawn clip's MP4: H.264 with lossless sound."""

from fractions import Fraction
from types import TracebackType
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.prepare.source.colour import tag_bt709, to_yuv420p

CRF = "12"  # libx264's constant rate factor: 0 is lossless, 51 the worst


class VideoWriter:
    """An MP4 being written, frame by frame, each with its share of the sound. Leaving the ``with`` block finishes it.

    The sound is ALAC at 16 kHz: unlike AAC it has no padding, so that sample 0 is heard with frame 0.
    """

    def __init__(self, file: BinaryIO, size: int, fps: int, sound: bool = True) -> None:
        """Begin an MP4 of square frames in `file`, which is open for writing and can seek."""
        self._container = av.open(file, "w", format="mp4")
        options = {"crf": CRF, "preset": "veryfast", "threads": "2"}
        self._video = self._container.add_stream("libx264", rate=fps, options=options)
        self._video.width = self._video.height = size
        self._video.pix_fmt = "yuv420p"
        tag_bt709(self._video.codec_context)
        self._sound = self._container.add_stream("alac", rate=SAMPLE_RATE, layout="mono") if sound else None
        if self._sound is not None:
            self._sound.codec_context.format = "s16p"
        self._fps, self._frames, self._samples = fps, 0, 0

    def write(self, rgb: npt.NDArray[np.uint8], pcm: npt.NDArray[np.int16] | None = None) -> None:
        """Append one frame ``[size, size, 3]``, and the int16 sound ``[n]`` that is heard with it."""
        frame = to_yuv420p(rgb)
        frame.pts, frame.time_base = self._frames, Fraction(1, self._fps)
        self._frames += 1
        self._container.mux(self._video.encode(frame))
        if self._sound is not None and pcm is not None:
            heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm)[None], format="s16p", layout="mono")
            heard.rate, heard.pts, heard.time_base = SAMPLE_RATE, self._samples, Fraction(1, SAMPLE_RATE)
            self._samples += len(pcm)
            self._container.mux(self._sound.encode(heard))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for stream in (self._video, self._sound):
                    if stream is not None:
                        self._container.mux(stream.encode(None))
        finally:
            self._container.close()
