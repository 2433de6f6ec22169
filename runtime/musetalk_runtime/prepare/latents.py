"""The latents of the faces: what the VAE encoder makes of each crop, half black and whole."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import Floats

FACES_A_CALL = 4


class LatentWriter:
    """Writes UNet latents, float16 ``[count, 2 * C, S, S]``, to an .npy file, a few faces at a time.

    Frames that are never added stay 0. A context manager: leaving it encodes what is pending.
    """

    def __init__(self, path: Path, bundle: Bundle, count: int) -> None:
        spec = bundle.spec
        shape = (count, 2 * spec.latent_channels, spec.latent_size, spec.latent_size)
        self._array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        self._bundle = bundle
        self._pending: dict[int, npt.NDArray[np.uint8]] = {}

    def add(self, index: int, crop: npt.NDArray[np.uint8]) -> None:
        """Take the face of frame `index`, RGB ``[I, I, 3]``."""
        self._pending[index] = crop
        if len(self._pending) == FACES_A_CALL:
            self._flush()

    def __enter__(self) -> "LatentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            self._flush()
        self._array.flush()

    def _flush(self) -> None:
        self._array[list(self._pending)] = encode_faces(self._bundle, np.stack(list(self._pending.values())))
        self._pending.clear()


def encode_faces(bundle: Bundle, crops: npt.NDArray[np.uint8]) -> Floats:
    """As face_latents, by the bundle's VAE encoder."""
    return face_latents(bundle.engines.encode_images, crops)


def face_latents(encode: Callable[[Floats], Floats], crops: npt.NDArray[np.uint8]) -> Floats:
    """UNet latents ``[N, 2 * C, S, S]`` of RGB crops ``[N, I, I, 3]``: with the lower half black, then whole.

    `encode` makes latents ``[M, C, S, S]`` of images ``[M, 3, I, I]`` in [0, 1].
    """
    whole = crops.transpose(0, 3, 1, 2).astype(np.float32) / 255
    upper = whole.copy()
    upper[:, :, upper.shape[2] // 2 :] = 0
    encoded = encode(np.concatenate([upper, whole]))
    return np.concatenate(np.split(encoded, 2), axis=1)
