"""The outlines of a mouth: lips, and the gap between them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.curve import Points
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.mouth_state import MouthState

HALF_WIDTH = 38.0  # at rest, pixels of a 512 picture, as all here
MAX_GAP = 34.0  # between the lips, at opening 1
JAW_DROP = 20.0  # of the lower teeth at jaw 1
Line = npt.NDArray[np.float64]

U = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 41))  # -1 the left corner, 1 the right; denser towards them


@dataclass(frozen=True)
class MouthShape:
    """Four lines over ``U``, about the middle of the mouth at rest: y of the lips' edges; x is ``U`` times a width."""

    half: float
    top: Line
    upper: Line
    lower: Line
    bottom: Line
    centre: Line

    @classmethod
    def of(cls, who: Identity, state: MouthState) -> "MouthShape":
        """The shape of a person's mouth."""
        half = HALF_WIDTH * who.mouth * (1 + 0.17 * state.width - 0.5 * state.rounding) * (1 - 0.06 * state.opening)
        gap = MAX_GAP * state.opening
        share = min(0.85, 0.25 + 0.1 * state.rounding + 0.3 * state.lift + 0.45 * state.tuck)
        round_by = min(1.0, state.opening + state.rounding)
        profile = (1 - U**2) ** (0.95 - 0.42 * round_by)
        rest = -6.2 * (1 - 0.85 * state.rounding) * (1 + 0.5 * state.width) * U**2 + 0.55 * np.cos(2.6 * np.pi * U) * (
            1 - round_by
        )
        rest = rest - 4.5 * state.tuck * profile
        upper = rest - gap * share * profile
        lower = rest + gap * (1 - share) * profile
        thin = (1 - 0.4 * state.press) * (1 - 0.1 * max(0, state.width)) * (1 - 0.12 * state.opening)
        thick = who.lips * thin * (1 + 0.22 * state.rounding)
        return cls(half, upper - _upper_lip(thick), upper, lower, lower + _lower_lip(thick, state), rest)

    def between(self, one: Line, other: Line, wider: float = 0.0, inset: float = 0.0) -> Points:
        """The area between two lines, `wider` pixels more to each side; `inset` of its width left free at the ends."""
        x = U * (self.half + wider) * (1 - inset)
        return np.concatenate([np.stack([x, one], axis=1), np.stack([x, other], axis=1)[::-1]])


def _upper_lip(thick: float) -> Line:
    bow = 1 - 0.26 * np.exp(-((U / 0.15) ** 2)) + 0.1 * np.exp(-(((np.abs(U) - 0.3) / 0.17) ** 2))
    edge: Line = 9.0 * thick * (1 - np.abs(U) ** 2.0) ** 0.85 * bow
    return edge


def _lower_lip(thick: float, state: MouthState) -> Line:
    edge: Line = 12.0 * thick * (1 - 0.42 * state.tuck) * (1 - np.abs(U) ** 2.3) ** 0.72
    return edge
