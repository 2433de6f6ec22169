"""The annotations of a video: speaker, split, face boxes and mouth openings, from the JSON file beside it."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.errors import InvalidMedia

MAX_BYTES = 64 << 20  # of the JSON file
MAX_COORDINATE = 1 << 20  # pixels; no box reaches further
MAX_OPENING = 1e6


@dataclass(frozen=True)
class Annotations:
    """``face_box``: the model's box in every frame of the file, or one for all; ``opening``: float32, how far the mouth
    is open in each; ``speaker``; ``held_out``: whether the speaker is kept for validation. None where the file has no
    such key."""

    speaker: str | None = None
    held_out: bool | None = None
    face_box: list[Box] | Box | None = None
    opening: npt.NDArray[np.float32] | None = None

    def box(self, index: int) -> Box:
        """The box in frame `index` of the file; only where ``face_box`` is given."""
        assert self.face_box is not None  # noqa: S101
        return self.face_box[index] if isinstance(self.face_box, list) else self.face_box

    def check_length(self, file: Path, last: int) -> None:
        """Raise InvalidMedia if a list of one value a frame ends before frame `last` of the video."""
        for name, value in (("face_box", self.face_box), ("opening", self.opening)):
            if isinstance(value, (list, np.ndarray)) and len(value) <= last:
                raise InvalidMedia(f"{file}: {name} tells of {len(value)} frames, the video has at least {last + 1}")


def annotation_file(video: Path) -> Path | None:
    """The JSON file beside `video`, ``talk.mp4.json`` or ``talk.json``, if there is one; it may be no regular file."""
    for file in (video.with_name(f"{video.name}.json"), video.with_suffix(".json")):
        if os.path.lexists(file):
            return file
    return None


def read_annotations(file: Path) -> Annotations:
    """Read the keys ``face_box``, ``opening``, ``speaker`` and ``held_out``; others are let be. Raises InvalidMedia."""
    value = _read_object(file)
    return Annotations(
        speaker=_speaker(file, value.get("speaker")),
        held_out=_held_out(file, value.get("held_out")),
        face_box=_boxes(file, value.get("face_box")),
        opening=_opening(file, value.get("opening")),
    )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InvalidMedia(f"{file}: {file.stat().st_size} bytes, expected at most {MAX_BYTES}")
        value = json.loads(file.read_text(encoding="utf-8"))
    except InvalidMedia:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidMedia(f"{file}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidMedia(f"{file}: expected a JSON object, found {type(value).__name__}")
    return value


def _speaker(file: Path, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise InvalidMedia(f"{file}: speaker is {value!r}, expected a name")


def _held_out(file: Path, value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise InvalidMedia(f"{file}: held_out is {str(value)[:80]}, expected true or false")


def _boxes(file: Path, value: Any) -> list[Box] | Box | None:
    if value is None:
        return None
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [_box(file, box) for box in value]
    return _box(file, value)


def _box(file: Path, value: Any) -> Box:
    numbers = isinstance(value, list) and len(value) == 4 and all(_is_number(part, MAX_COORDINATE) for part in value)
    if not numbers:
        raise InvalidMedia(f"{file}: face_box is {str(value)[:80]}, expected [x0, y0, x1, y1] or a list of them")
    x0, y0, x1, y1 = (round(part) for part in value)
    return x0, y0, x1, y1


def _opening(file: Path, value: Any) -> npt.NDArray[np.float32] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_number(part, MAX_OPENING) for part in value):
        raise InvalidMedia(f"{file}: opening must be a list of numbers, one a frame")
    return np.array(value, np.float32)


def _is_number(value: Any, largest: float) -> bool:
    kind = isinstance(value, (int, float)) and not isinstance(value, bool)
    return kind and math.isfinite(value) and abs(value) <= largest
