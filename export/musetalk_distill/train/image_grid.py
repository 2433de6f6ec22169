"""Image grids to look at: the same few frames, one row for each model that painted them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.data.dataset import FrameDataset
from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.output_file import write_output

MAX_COLUMNS = 6
LABEL_HEIGHT = 24  # pixels of the line above a row that names it


def grid_batch(dataset: FrameDataset, device: torch.device) -> Batch:
    """A few frames, spread over `dataset`."""
    count = min(MAX_COLUMNS, len(dataset.sampler))
    frames = np.linspace(0, len(dataset.sampler) - 1, count + 2)[1:-1].astype(int)
    return dataset.batch(frames.tolist(), device)


def write_image_grid(file: Path, pictures: dict[str, Tensor]) -> None:
    """Write ``[N, 3, I, I]`` pictures in about [0, 1], by name, as a PNG of a named row each; raises OutputError."""
    rows = []
    for name, images in pictures.items():
        pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        row = np.concatenate(list(pixels.transpose(0, 2, 3, 1)[..., ::-1]), axis=1)  # OpenCV's BGR
        label = np.full((LABEL_HEIGHT, row.shape[1], 3), 255, np.uint8)
        cv2.putText(label, name, (4, LABEL_HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        rows += [label, row]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror}") from error
    write_output(file, cv2.imencode(".png", np.concatenate(rows))[1].tobytes())
