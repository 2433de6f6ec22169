"""The preview: a sheet of sample frames with box, landmarks and mask drawn on them."""

from pathlib import Path

import cv2
import numpy as np

from musetalk_runtime.core.arrays import RGB
from musetalk_runtime.prepare.placement import Placement
from musetalk_runtime.storage.output_file import write_output

TILES, COLUMNS, TILE_HEIGHT = 6, 3, 480
BOX_COLOUR, POINT_COLOUR, MASK_COLOUR = (80, 220, 80), (255, 220, 0), (255, 40, 160)
TINT = 0.6  # of the mask's colour where the mask is full


class Preview:
    """Up to six frames, spread over the avatar, as one picture."""

    def __init__(self, count: int) -> None:
        self._samples = set(np.linspace(0, count - 1, min(TILES, count)).round().astype(int).tolist())
        self._tiles: list[RGB] = []

    def add(self, index: int, rgb: RGB, placement: Placement | None) -> None:
        """Draw frame `index` if it is one of the samples."""
        if index not in self._samples:
            return
        drawn = rgb if placement is None else _draw(rgb, placement)
        width = max(1, round(rgb.shape[1] * TILE_HEIGHT / rgb.shape[0]))
        self._tiles.append(cv2.resize(drawn, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA))

    def write(self, path: Path) -> None:
        """Write the sheet to `path` as PNG; raises OutputError."""
        blank = np.zeros_like(self._tiles[0])
        columns = min(COLUMNS, len(self._tiles))
        tiles = self._tiles + [blank] * (-len(self._tiles) % columns)
        rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
        png = cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))[1]
        write_output(path, png.tobytes())


def _draw(rgb: RGB, placement: Placement) -> RGB:
    x0, y0, x1, y1 = placement.box
    height, width = rgb.shape[:2]
    drawn: RGB = rgb.copy()
    inside = np.s_[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    stretched = cv2.resize(placement.mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    alpha = stretched[max(-y0, 0) : min(y1, height) - y0, max(-x0, 0) : min(x1, width) - x0, None] * (TINT / 255)
    drawn[inside] = (drawn[inside] * (1 - alpha) + np.array(MASK_COLOUR) * alpha).round()
    line = max(1, round(height / 300))
    cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOUR, line)
    for x, y in [] if placement.landmarks is None else placement.landmarks.round().astype(int).tolist():
        cv2.circle(drawn, (x, y), 2 * line, POINT_COLOUR, -1)
    return drawn
