"""The samples of a decoded frame as finite floats."""

from typing import Any

import av
import numpy as np

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia

CLIPPED_PEAK = 4.0  # times full scale: beyond what a lossy codec overshoots by


class SampleReader:
    """Reads frames of any sample format; afterwards ``warnings`` says what was in them besides sound."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._invalid = 0

    def __call__(self, frame: av.AudioFrame) -> Floats:
        """The samples ``[channels, n]`` in [-1, 1]; NaN and infinity are silence. Raises InvalidMedia."""
        try:
            array: Any = frame.to_ndarray()
        except ValueError as error:
            raise InvalidMedia(f"its audio cannot be read: {error}") from None
        if not frame.format.is_planar:
            array = array.reshape(-1, frame.layout.nb_channels).T
        if array.dtype.kind == "u":
            return np.asarray((array.astype(np.float32) - 128) / 128, np.float32)
        if array.dtype.kind == "i":
            return np.asarray(array / np.float32(-float(np.iinfo(array.dtype).min)), np.float32)
        return self._bounded(array)

    @property
    def warnings(self) -> list[str]:
        found = []
        if self._invalid:
            found.append(f"{self._invalid} of its samples are not numbers: they are silence")
        if self._peak > CLIPPED_PEAK:
            found.append(f"its samples reach {self._peak:.3g} times full scale: they are clipped")
        return found

    def _bounded(self, array: Any) -> Floats:
        finite = np.isfinite(array)
        if not finite.all():
            self._invalid += int(array.size - np.count_nonzero(finite))
            array = np.where(finite, array, 0)
        self._peak = max(self._peak, float(np.abs(array).max(initial=0.0)))
        return np.asarray(np.clip(array, -1, 1), np.float32)
