"""What a plan is to be."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """Its precision, its rung of the ladder, and the ONNX file it was parsed from."""

    precision: str
    variant: str
    source: Path
