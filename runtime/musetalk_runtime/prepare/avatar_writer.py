"""The writer of an avatar's files, in one pass over its source."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.avatar.pack import (
    ALPHA,
    BOXES,
    FRAMES,
    HAS_FACE,
    LATENTS,
    MASK_SIZE,
    MASKS,
    THUMBNAIL_SIZE,
    THUMBNAILS,
)
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import RGB, Bytes
from musetalk_runtime.prepare.frame_writer import AlphaWriter, FrameWriter
from musetalk_runtime.prepare.latents import LatentWriter
from musetalk_runtime.prepare.placement import Placement
from musetalk_runtime.prepare.source.colour import BLACK, alpha_of, on_background
from musetalk_runtime.prepare.source.video import VideoSource
from musetalk_runtime.storage.folder import Manifest

Observer = Callable[[int, RGB], None]
"""Called with the number of each frame, and the frame, RGB ``[H, W, 3]``, as it is written."""


@dataclass(frozen=True)
class PlacedClip:
    """A source, of the size and rate of all others of the avatar, and where the face is in each of its frames."""

    name: str
    source: VideoSource
    placements: Sequence[Placement | None]


def write_avatar(
    folder: Path, clips: Sequence[PlacedClip], named: bool, transparent: bool, bundle: Bundle, observe: Observer
) -> Manifest:
    """Write frames, latents, boxes and masks into `folder`, and give what the manifest says of them.

    Where clips are `named`, it lists them, and there are thumbnails. `transparent` keeps the transparency of frames.
    """
    placements = [placement for clip in clips for placement in clip.placements]
    _write_placements(folder, placements)
    spec, source = bundle.spec, clips[0].source
    thumbnails = np.zeros((len(placements), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    with (
        FrameWriter(folder / FRAMES, source.width, source.height, source.fps) as video,
        LatentWriter(folder / LATENTS, bundle, len(placements)) as latents,
        AlphaWriter(folder / ALPHA, source.width, source.height, source.fps) if transparent else nullcontext() as alpha,
    ):
        pictures = chain.from_iterable(
            clip.source.pictures() if transparent else clip.source.frames() for clip in clips
        )
        for index, (picture, placement) in enumerate(zip(pictures, placements, strict=True)):
            rgb = on_background(picture, BLACK)
            video.write(rgb)
            if alpha:
                alpha.write(alpha_of(picture))
            if placement is not None:
                latents.add(index, crop_face(rgb, placement.box, spec.image_size))
            if named:
                thumbnails[index] = _thumbnail(rgb)
            observe(index, rgb)
    manifest = {
        "width": source.width,
        "height": source.height,
        "fps": f"{source.fps.numerator}/{source.fps.denominator}",
        "frames": len(placements),
        "image_size": spec.image_size,
        "latent_size": spec.latent_size,
        "latent_channels": spec.latent_channels,
        "encoder_id": spec.encoder_id,
    }
    if named:
        np.save(folder / THUMBNAILS, thumbnails)
        manifest["clips"] = [{"name": clip.name, "frames": len(clip.placements)} for clip in clips]
    return manifest


def _thumbnail(rgb: RGB) -> Bytes:
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.asarray(cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8)


def _write_placements(folder: Path, placements: Sequence[Placement | None]) -> None:
    boxes = np.zeros((len(placements), 4), np.int32)
    masks = np.zeros((len(placements), MASK_SIZE, MASK_SIZE), np.uint8)
    for index, placement in enumerate(placements):
        if placement is not None:
            boxes[index], masks[index] = placement.box, placement.mask
    np.save(folder / BOXES, boxes)
    np.save(folder / MASKS, masks)
    np.save(folder / HAS_FACE, np.array([placement is not None for placement in placements]))
