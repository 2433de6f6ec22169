"""The state of a mouth at one moment, as nine numbers."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MouthState:
    """Nine numbers that draw a mouth; all 0 is closed and at rest."""

    opening: float = 0.0
    """The gap between the lips: 0 closed, 1 as far as it goes."""
    jaw: float = 0.0
    """How far the jaw has dropped, with the lower teeth: 0 to 1."""
    width: float = 0.0
    """-1 narrow, 1 spread."""
    rounding: float = 0.0
    """0 flat, 1 pursed and pushed out."""
    lift: float = 0.0
    """How far the upper lip shows the upper teeth beyond its share of the opening: 0 to 1."""
    tuck: float = 0.0
    """1: the lower lip under the upper teeth, as for F."""
    press: float = 0.0
    """1: the lips pressed together, as for M."""
    tongue: float = 0.0
    """0 lying, 1 its tip behind the upper teeth, as for L."""
    tip: float = 0.0
    """1: the tip of the tongue between the teeth, as for TH."""

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> "MouthState":
        """From ``[9]`` in the order of the fields."""
        return cls(*(float(value) for value in values))


NAMES = tuple(field.name for field in fields(MouthState))
