"""The record that describes one frame of a batch to the kernels."""

import numpy as np

ITEM = np.dtype(
    [
        ("frame", np.uint64),  # device addresses: the avatar's NV12 frame,
        ("output", np.uint64),  # the finished frame (0: nothing to do),
        ("mask", np.uint64),  # uint8 [MASK_SIZE, MASK_SIZE],
        ("latents", np.uint64),  # float16 [2 * C, S, S],
        ("tokens", np.uint64),  # [tokens, audio_width] of the UNet's type
        ("face", np.int32),  # row in the UNet's batch, -1: the frame is shown as it is
        ("weight", np.float32),  # of the face, in [0, 1]
        ("box", np.int32, (4,)),  # x0, y0, x1, y1 in pixels, ends excluded; may leave the frame
        ("base", np.uint64),  # the base layer: as ``BaseLayer.packed``; 0: none
        ("sharpening", np.float32),  # of the base layer
        ("unused", np.uint32),
    ]
)
"""One element of the array the kernels read: ``struct Item`` of ``compose.cu``."""
