"""The builder of a clip's tensors, which takes its faces one by one."""

import numpy as np
import numpy.typing as npt

from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.shards.clip import ClipTensors
from musetalk_runtime.core.arrays import Bytes, Floats
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.prepare.latents import face_latents

MAX_IMAGES = 16  # true faces kept of a clip
PLAIN_LEVELS = 12  # of 255, by colour: one colour is so even after a lossy codec, and no face is


class ClipBuilder:
    """Latents and some faces of one clip, encoded a few at a time; ``plain_frames`` counts faces of one colour."""

    def __init__(self, frames: int, encoders: Encoders) -> None:
        spec = encoders.spec
        self._encoders = encoders
        shape = (frames, 2 * spec.latent_channels, spec.latent_size, spec.latent_size)
        self._latents = np.empty(shape, np.float16)
        self._images_at = _spread(frames, MAX_IMAGES)
        self._images: list[Bytes] = []
        self._pending: list[Bytes] = []
        self._encoded = 0
        self.plain_frames = 0

    def add(self, crop: Bytes) -> None:
        """Take the face of the next frame, RGB ``[I, I, 3]``."""
        if self._encoded + len(self._pending) in self._images_at:
            self._images.append(crop.transpose(2, 0, 1))
        self.plain_frames += int(np.ptp(crop.reshape(-1, 3), axis=0).max()) <= PLAIN_LEVELS
        self._pending.append(crop)
        if len(self._pending) == self._encoders.faces:
            self._encode()

    def finish(self, states: npt.NDArray[np.float16], opening: Floats | None) -> ClipTensors:
        """The clip, once every face is there; raises InvalidMedia where an encoder overflows."""
        if self._pending:
            self._encode()
        masked, whole = (np.ascontiguousarray(half) for half in np.split(self._latents, 2, axis=1))
        if not np.isfinite(self._latents).all():
            raise InvalidMedia("its faces make no finite latents")
        return ClipTensors(whole, masked, states, np.stack(self._images), self._images_at, opening)

    def _encode(self) -> None:
        found = face_latents(self._encoders.encode_images, np.stack(self._pending))
        self._latents[self._encoded : self._encoded + len(found)] = found
        self._encoded += len(found)
        self._pending.clear()


def _spread(count: int, wanted: int) -> npt.NDArray[np.int32]:
    """At most `wanted` of `count` frames, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round()).astype(np.int32)
