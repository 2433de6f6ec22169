"""An avatar pack: a person's frames with the latents, boxes and masks made for one VAE encoder.

The folder holds, for n frames and the model's sizes C (latent channels) and S (latent size):

| file | content |
| --- | --- |
| ``frames.mp4`` | H.264, keyframes only, yuv420p, BT.709 limited range |
| ``latents.npy`` | float16 ``[n, 2 * C, S, S]``: the UNet's input, 0 without a face |
| ``boxes.npy`` | int32 ``[n, 4]``: x0, y0, x1, y1 in pixels, the last two exclusive; may leave the frame |
| ``masks.npy`` | uint8 ``[n, MASK_SIZE, MASK_SIZE]`` over the box: 255 takes the model's face, 0 keeps the frame |
| ``has_face.npy`` | bool ``[n]``: frames without a face are played as they are |
| ``alpha.mp4`` | only of transparent frames, whose colours are times alpha then: as them, the luma is alpha, lossless |

and in the manifest ``width``, ``height``, ``fps`` ("25/1"), ``frames``, ``image_size``, ``latent_size``,
``latent_channels``, ``encoder_id``, and ``face``: how the faces were found.

That is schema 1, of one clip. In schema 2 there may be several, one after another: ``clips`` lists the ``name`` and the
number of ``frames`` of each, and there is also

| ``thumbnails.npy`` | uint8 ``[n, THUMBNAIL_SIZE, THUMBNAIL_SIZE]``: the frames in grey, to find similar ones |
"""

from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.base_layer import CELL, BaseLayer, BaseLayers, lost_sharpness
from musetalk_runtime.avatar.box import Box, box_problem
from musetalk_runtime.avatar.clips import FIRST_NAME, Clip, nearest, parse_clips
from musetalk_runtime.avatar.frames import FrameStore
from musetalk_runtime.core.arrays import NV12, Bytes
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.detail import DETAILS, Detail
from musetalk_runtime.core.errors import AvatarMismatch, InvalidArgument, InvalidFolder, one_line
from musetalk_runtime.core.model import MAX_VALUES, ModelSpec
from musetalk_runtime.storage.folder import MANIFEST, Manifest, listed_file, read_folder, settled

AVATAR_KIND = "avatar"
ONE_CLIP, SEVERAL_CLIPS = AVATAR_SCHEMAS = 1, 2
FRAMES, LATENTS, BOXES, MASKS, HAS_FACE = "frames.mp4", "latents.npy", "boxes.npy", "masks.npy", "has_face.npy"
THUMBNAILS, ALPHA = "thumbnails.npy", "alpha.mp4"
MASK_SIZE, THUMBNAIL_SIZE = 64, 32
MAX_SIDE = 16384


class Avatar(Closable):
    """An open avatar pack.

    Attributes: ``path``, ``width`` and ``height`` (even, pixels), ``fps`` (Fraction), ``image_size`` (pixels of the
    model's faces), ``encoder_id``, ``detail`` (``off`` too where faces of that size cannot have it), and by frame
    ``latents``, ``boxes``, ``masks``, ``has_face`` (see the module), all read-only. Its length is the frames of all its
    clips.
    """

    def __init__(self, path: Path, manifest: Manifest, detail: Detail = "auto") -> None:
        self.path, self.closed = path, False
        self._manifest = manifest
        self.width, self.height = self._size("width", MAX_SIDE), self._size("height", MAX_SIDE)
        self.fps = self._rate()
        self.encoder_id = str(manifest.get("encoder_id"))
        self._count = self._size("frames")
        self.image_size = self._size("image_size", MAX_VALUES["image_size"])
        side, channels = self._size("latent_size"), 2 * self._size("latent_channels")
        self.latents = self._array(LATENTS, np.float16, (channels, side, side))
        self.boxes = self._array(BOXES, np.int32, (4,))
        self.masks = self._array(MASKS, np.uint8, (MASK_SIZE, MASK_SIZE))
        self.has_face = self._array(HAS_FACE, np.bool_, ())
        self.clips, self.thumbnails = self._clips()
        self._check_boxes()
        self._frames = self._video(FRAMES)
        self._alphas = self._video(ALPHA) if ALPHA in manifest["files"] else None
        self.detail: Detail = "off" if self.image_size % CELL else detail
        self._bases = BaseLayers(self._base) if self.detail == "auto" else None

    @classmethod
    def open(cls, path: str | Path, detail: Detail = "auto") -> "Avatar":
        """Open the avatar in the folder `path`; raises InputNotFound, InvalidFolder or InvalidArgument.

        `detail` says whether faces that are generated for it get the detail and the colours of its frames: ``auto`` or
        ``off``.
        """
        if detail not in DETAILS:
            raise InvalidArgument(f"{detail=}, expected {' or '.join(DETAILS)}")
        path = settled(Path(path))
        return cls(path, read_folder(path, AVATAR_KIND, *AVATAR_SCHEMAS), detail)

    def __len__(self) -> int:
        return self._count

    def rest(self) -> None:
        """Drop the decoded frames held in memory; they are decoded again when they are asked for."""
        for store in (self._frames, self._alphas):
            if store is not None:
                store.rest()
        if self._bases is not None:
            self._bases.rest()

    def close(self) -> None:
        """Drop the frames held in memory, for good. Closing twice is fine."""
        self.closed = True
        for store in (self._frames, self._alphas):
            if store is not None:
                store.close()
        if self._bases is not None:
            self._bases.rest()

    def frame(self, index: int) -> NV12:
        """Frame `index` as read-only NV12 uint8 ``[height * 3 / 2, width]``, BT.709 limited range."""
        return self._frames[index]

    def alpha(self, index: int) -> Bytes | None:
        """How opaque frame `index` is, read-only uint8 ``[height, width]``; its colours are times that.

        None for an avatar without transparency.
        """
        return None if self._alphas is None else self._alphas[index][: self.height]

    def base(self, index: int) -> BaseLayer | None:
        """The base layer of frame `index`, which must have a face; None where no detail is to be given back."""
        return None if self._bases is None else self._bases[index]

    def index_at(self, k: int, fps: Fraction) -> int:
        """The frame of the first clip to show with frame `k` of a stream at `fps`: forth and back, the ends shown once
        a turn.
        """
        return int(self.clips[0].looped(nearest(k, self.fps / fps)))

    @property
    def poses(self) -> tuple[str, ...]:
        """The names of its clips, which ``Session.pose`` takes; the first plays by default."""
        return tuple(clip.name for clip in self.clips)

    def check(self, spec: ModelSpec) -> None:
        """Raise AvatarMismatch unless the latents were made by the encoder of `spec`, at its sizes."""
        made = [
            self.encoder_id,
            *(self._manifest.get(name) for name in ("image_size", "latent_size", "latent_channels")),
        ]
        wanted = [spec.encoder_id, spec.image_size, spec.latent_size, spec.latent_channels]
        if made != wanted:
            raise AvatarMismatch(
                f"{self.path}: prepared with VAE encoder {_short(made)}, the bundle has {_short(wanted)}: "
                f"run 'musetalk-edge prepare VIDEO -b BUNDLE -o {self.path}' with this bundle"
            )

    def _base(self, index: int) -> BaseLayer:
        return BaseLayer.of(self.frame(index), self.masks[index], self._box(index), self.image_size, self._sharpening)

    @cached_property
    def _sharpening(self) -> float:
        """Measured on the first face, and the same for all, so that it cannot flicker."""
        first = int(self.has_face.argmax())
        return lost_sharpness(self.frame(first), self._box(first), self.image_size)

    def _box(self, index: Any) -> Box:
        x0, y0, x1, y1 = self.boxes[index].tolist()
        return x0, y0, x1, y1

    def _size(self, name: str, largest: int = 1 << 30) -> int:
        value = self._manifest.get(name)
        if type(value) is not int or not 0 < value <= largest or (name in ("width", "height") and value % 2):
            raise InvalidFolder(f"{self.path / MANIFEST}: {name} is {value!r}, expected a positive (even) number")
        return value

    def _video(self, name: str) -> FrameStore:
        store = FrameStore(listed_file(self.path, self._manifest, name), self.width, self.height)
        if len(store) != self._count:
            raise InvalidFolder(f"{self.path / name}: {len(store)} frames, the manifest says {self._count}")
        return store

    def _rate(self) -> Fraction:
        text = self._manifest.get("fps")
        try:
            rate = Fraction(text) if isinstance(text, str) else Fraction(0)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= 1000:
            raise InvalidFolder(f"{self.path / MANIFEST}: fps is {text!r}, expected a rate such as '25/1'")
        return rate

    def _array(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        file = listed_file(self.path, self._manifest, name)
        try:
            array = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        except Exception as error:  # its header is read by Python's own parser, which has many errors
            reason = one_line(error)[:300]
            raise InvalidFolder(f"{file}: not a plain array: {reason}") from None
        expected = (self._count, *shape)
        if array.dtype != dtype or array.shape != expected:
            raise InvalidFolder(
                f"{file}: found {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} {list(expected)}"
            )
        return array

    def _clips(self) -> tuple[tuple[Clip, ...], npt.NDArray[np.uint8] | None]:
        """The clips, and the thumbnails by which similar frames of theirs are found."""
        if self._manifest["schema"] == ONE_CLIP:
            return (Clip(FIRST_NAME, 0, self._count),), None
        try:
            clips = parse_clips(self._manifest.get("clips"), self._count)
        except ValueError as error:
            raise InvalidFolder(f"{self.path / MANIFEST}: {error}") from None
        return clips, self._array(THUMBNAILS, np.uint8, (THUMBNAIL_SIZE, THUMBNAIL_SIZE))

    def _check_boxes(self) -> None:
        for index in np.flatnonzero(self.has_face):
            if problem := box_problem(self._box(index), self.width, self.height):
                raise InvalidFolder(f"{self.path / BOXES}: the box of frame {index} {problem}: prepare it again")


def _short(made: list[Any]) -> str:
    return f"{str(made[0])[:12]} ({made[1]} pixels, latents of {made[3]}x{made[2]}x{made[2]})"
