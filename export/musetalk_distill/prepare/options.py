"""The options of a preparation of training videos."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from musetalk_runtime.core.errors import InvalidArgument

MIN_FPS, MAX_FPS = 10, 50


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare. Raises InvalidArgument for a value out of its range.

    ``face_model``: a YuNet file, for videos whose JSON file names no box. ``boxes_from_json``: leave out those videos
    instead. ``val_share``: 0 to below 1, how many of the speakers are kept for validation. ``fps``: 10 to 50.
    """

    face_model: Path | None = None
    boxes_from_json: bool = False
    val_share: float = 0.1
    fps: int = 25

    def __post_init__(self) -> None:
        if self.face_model is not None and self.boxes_from_json:
            raise InvalidArgument("--face-model and --face-boxes-from-json exclude each other")
        if not 0 <= self.val_share < 1:
            raise InvalidArgument(f"--val-share {self.val_share} is out of range [0, 1)")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise InvalidArgument(f"--fps {self.fps} is out of range [{MIN_FPS}, {MAX_FPS}]")

    @property
    def rate(self) -> Fraction:
        """Frames a second of every clip."""
        return Fraction(self.fps)
