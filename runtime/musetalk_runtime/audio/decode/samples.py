"""The samples of a decoded frame as finite floats of one or two channels."""

from typing import Any

import av
import numpy as np

from musetalk_runtime.audio.mix import MonoMix
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia

CLIPPED_PEAK = 4.0  # times full scale: beyond what a lossy codec overshoots by
LAYOUTS = {3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # of channels without a layout, as WAV has it


class SampleReader:
    """Reads frames of any sample format and layout, of what errors call `name`; afterwards ``warnings`` says what was
    in them besides sound.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._peak = 0.0
        self._invalid = 0
        self._mono = MonoMix()

    def __call__(self, frame: av.AudioFrame) -> Floats:
        """The samples ``[1 or 2, n]`` in [-1, 1]; more channels are mixed to two, and what is no number is silence.

        Raises InvalidMedia.
        """
        try:
            if frame.layout.nb_channels <= 2:
                return self._floats(_array(frame))
            if (mixed := _mixed(frame)) is not None:
                return self._floats(mixed)
            mono = self._mono(self._floats(_array(frame)), frame.sample_rate)
            return np.stack([mono, mono])
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidMedia(f"{self._name}: its audio cannot be read: {reason}") from None

    @property
    def warnings(self) -> list[str]:
        found = []
        if self._invalid:
            found.append(f"{self._invalid} of its samples are not numbers: they are silence")
        if self._peak > CLIPPED_PEAK:
            found.append(f"its samples reach {self._peak:.3g} times full scale: they are clipped")
        return found

    def _floats(self, array: Any) -> Floats:
        """In [-1, 1], of any type."""
        if array.dtype.kind == "u":
            return np.asarray((array.astype(np.float32) - 128) / 128, np.float32)
        if array.dtype.kind == "i":
            return np.asarray(array / np.float32(-float(np.iinfo(array.dtype).min)), np.float32)
        finite = np.isfinite(array)
        if not finite.all():
            self._invalid += int(array.size - np.count_nonzero(finite))
            array = np.where(finite, array, 0)
        self._peak = max(self._peak, float(np.abs(array).max(initial=0.0)))
        return np.asarray(np.clip(array, -1, 1), np.float32)


def _array(frame: av.AudioFrame) -> Any:
    """``[channels, n]``, in the frame's own type."""
    array = frame.to_ndarray()
    return array if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels).T


def _mixed(frame: av.AudioFrame) -> Any:
    """Two channels ``[2, n]`` of more, by FFmpeg's matrix; None where the layout has none.

    The planes of the frame are not looked at: PyAV 18 reads past the end of 8 of them.
    """
    count = frame.layout.nb_channels
    if frame.layout.name == f"{count} channels":  # nobody named them
        if frame.format.is_planar:
            raise ValueError(f"{count} channels without a layout")
        if count not in LAYOUTS:
            return None
        named = av.AudioFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name, layout=LAYOUTS[count])
        named.sample_rate = frame.sample_rate
        frame = named
    frame.pts = None
    try:
        (mixed,) = av.AudioResampler(format="fltp", layout="stereo", rate=frame.sample_rate).resample(frame)
    except av.FFmpegError:
        if frame.format.is_planar:
            raise
        return None
    return mixed.to_ndarray()
