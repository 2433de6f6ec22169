"""The writer of an avatar's files, in one pass over its source."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.pack import BOXES, FRAMES, HAS_FACE, LATENTS, MASK_SIZE, MASKS
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.prepare.crop import crop_face
from musetalk_runtime.prepare.frame_writer import FrameWriter
from musetalk_runtime.prepare.latents import LatentWriter
from musetalk_runtime.prepare.placement import Placement
from musetalk_runtime.prepare.video import VideoSource
from musetalk_runtime.storage.folder import Manifest

Observer = Callable[[int, npt.NDArray[np.uint8]], None]
"""Called with the number of each frame, and the frame, RGB ``[H, W, 3]``, as it is written."""


def write_avatar(
    folder: Path, source: VideoSource, placements: Sequence[Placement | None], bundle: Bundle, observe: Observer
) -> Manifest:
    """Write frames, latents, boxes and masks into `folder`, and give what the manifest says of them."""
    _write_placements(folder, placements)
    spec = bundle.spec
    with (
        FrameWriter(folder / FRAMES, source.width, source.height, source.fps) as video,
        LatentWriter(folder / LATENTS, bundle, len(source)) as latents,
    ):
        for index, (rgb, placement) in enumerate(zip(source.frames(), placements, strict=True)):
            video.write(rgb)
            if placement is not None:
                latents.add(index, crop_face(rgb, placement.box, spec.image_size))
            observe(index, rgb)
    return {
        "width": source.width,
        "height": source.height,
        "fps": f"{source.fps.numerator}/{source.fps.denominator}",
        "frames": len(source),
        "image_size": spec.image_size,
        "latent_size": spec.latent_size,
        "latent_channels": spec.latent_channels,
        "encoder_id": spec.encoder_id,
    }


def _write_placements(folder: Path, placements: Sequence[Placement | None]) -> None:
    boxes = np.zeros((len(placements), 4), np.int32)
    masks = np.zeros((len(placements), MASK_SIZE, MASK_SIZE), np.uint8)
    for index, placement in enumerate(placements):
        if placement is not None:
            boxes[index], masks[index] = placement.box, placement.mask
    np.save(folder / BOXES, boxes)
    np.save(folder / MASKS, masks)
    np.save(folder / HAS_FACE, np.array([placement is not None for placement in placements]))
