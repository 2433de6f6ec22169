"""The plot of a soak test: memory, descriptors and threads over time, and how long each fault was felt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from server import Server

PANELS = ("memory, MB", "descriptors", "threads")
MAX_RECOVERY_S = 60.0  # seconds, for a picture that has an end
WIDTH, HEIGHT, MARGIN = 1400, 180, 60  # pixels: of the picture, and of one panel
INK, GRID, LINE = (40, 40, 40), (225, 225, 225), (180, 90, 30)
COLOURS = {
    "stall": (200, 160, 60), "close": (160, 60, 160), "garbage": (60, 160, 200), "worker": (60, 140, 60),
    "disk full": (60, 60, 200), "freeze": (150, 150, 150), "kill": (0, 0, 0),
}  # fmt: skip


def draw(file: Path, server: Server, done: list[dict[str, Any]], seconds: float) -> None:
    """Write the picture to `file`, a PNG."""
    picture = np.full((HEIGHT * (len(PANELS) + 1) + MARGIN, WIDTH, 3), 255, np.uint8)
    for panel, name in enumerate(PANELS):
        lives = [[(sample[0], float(sample[panel + 1])) for sample in all_] for all_ in server.samples.values()]
        place = _panel(picture, panel, name, max((value for life in lives for _, value in life), default=1.0), seconds)
        for life in lives:
            line = np.array([place(*sample) for sample in life], np.int32).reshape(-1, 1, 2)
            cv2.polylines(picture, [line], False, LINE, 2, cv2.LINE_AA)
    back = [MAX_RECOVERY_S if fault["recovered_seconds"] is None else fault["recovered_seconds"] for fault in done]
    place = _panel(picture, len(PANELS), "seconds until watched again, by fault", max([1.0, *back]), seconds)
    for fault, value in zip(done, back, strict=True):
        cv2.circle(picture, place(fault["ended"], value), 4, COLOURS[fault["kind"]], cv2.FILLED, cv2.LINE_AA)
    for column, (kind, colour) in enumerate(COLOURS.items()):
        _write(picture, kind, MARGIN + 150 * column, HEIGHT * (len(PANELS) + 1) + 40, colour)
    _write(picture, f"{seconds / 60:g} minutes", WIDTH - 150, HEIGHT * (len(PANELS) + 1) + 40, INK)
    cv2.imwrite(str(file), picture)


def _panel(picture: Any, panel: int, name: str, most: float, seconds: float) -> Callable[[float, float], Any]:
    """Draw its frame; gives where a time and a value are in it."""
    top, most = panel * HEIGHT + 20, most * 1.1

    def place(at: float, value: float) -> tuple[int, int]:
        x = MARGIN + round(min(1.0, at / seconds) * (WIDTH - 20 - MARGIN))
        return x, top + round((1 - value / most) * (HEIGHT - 40))

    for part in (0.0, 0.5, 1.0):
        y = place(0, most * part)[1]
        cv2.line(picture, (MARGIN, y), (WIDTH - 20, y), GRID, 1)
        _write(picture, f"{most * part:.4g}", 5, y + 4, INK)
    _write(picture, name, MARGIN + 5, top - 5, INK)
    return place


def _write(picture: Any, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
