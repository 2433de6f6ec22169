"""A soak as a picture: memory, descriptors and threads over time, with the faults and how long they were felt."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from server import Server

WIDTH, HEIGHT, MARGIN = 1400, 180, 60  # pixels: of the picture, and of one panel
INK, GRID, LINE = (40, 40, 40), (225, 225, 225), (180, 90, 30)
COLOURS = {
    "stall": (200, 160, 60), "close": (160, 60, 160), "garbage": (60, 160, 200), "worker": (60, 140, 60),
    "disk full": (60, 60, 200), "freeze": (150, 150, 150), "kill": (0, 0, 0),
}  # fmt: skip


def draw(file: Path, server: Server, done: list[dict[str, Any]], seconds: float) -> None:
    """Write the picture to `file`, a PNG."""
    names = ["memory, MB", "descriptors", "threads", "seconds until watched again"]
    picture = np.full((HEIGHT * len(names) + MARGIN, WIDTH, 3), 255, np.uint8)
    for panel, name in enumerate(names):
        top = panel * HEIGHT + 20
        if panel < 3:
            lines = [[(s[0], float(s[panel + 1])) for s in samples] for samples in server.samples.values()]
        else:
            lines = [[(fault["ended"], fault["recovered_seconds"] or 60.0)] for fault in done]
        most = max([1.0, *(value for line in lines for _, value in line)]) * 1.1
        _panel(picture, top, name, most)
        for fault in done:
            at = _x(fault["begun"], seconds)
            cv2.line(picture, (at, top), (at, top + HEIGHT - 40), COLOURS[fault["kind"]], 1)
        for line in lines:
            places = [(_x(at, seconds), _y(value, most, top)) for at, value in line]
            cv2.polylines(picture, [np.array(places, np.int32).reshape(-1, 1, 2)], False, LINE, 2, cv2.LINE_AA)
            if panel == 3 and places:
                cv2.circle(picture, places[0], 4, LINE, cv2.FILLED, cv2.LINE_AA)
    for place, (kind, colour) in enumerate(COLOURS.items()):
        _write(picture, kind, MARGIN + 150 * place, HEIGHT * len(names) + 40, colour)
    _write(picture, f"{seconds / 60:g} minutes", WIDTH - 150, HEIGHT * len(names) + 40, INK)
    cv2.imwrite(str(file), picture)


def _panel(picture: Any, top: int, name: str, most: float) -> None:
    for part in (0.0, 0.5, 1.0):
        y = _y(most * part, most, top)
        cv2.line(picture, (MARGIN, y), (WIDTH - 20, y), GRID, 1)
        _write(picture, f"{most * part:.4g}", 5, y + 4, INK)
    _write(picture, name, MARGIN + 5, top - 5, INK)


def _x(at: float, seconds: float) -> int:
    return MARGIN + round(min(1.0, at / seconds) * (WIDTH - 20 - MARGIN))


def _y(value: float, most: float, top: int) -> int:
    return top + round((1 - value / most) * (HEIGHT - 40))


def _write(picture: Any, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
