"""The movement of a mouth over time, from timed phonemes, with co-articulation."""

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.mouth_state import NAMES, MouthState
from musetalk_drawn.speech.visemes import REST, VISEMES, of_phoneme

STEPS_PER_SECOND = 200
REACH_S = {
    "opening": 0.11,
    "jaw": 0.13,
    "width": 0.2,
    "rounding": 0.22,
    "lift": 0.1,
    "tuck": 0.08,
    "press": 0.07,
    "tongue": 0.09,
    "tip": 0.08,
}
"""Seconds over which a part of the mouth changes: lips round themselves long before a sound that needs it."""
MIN_CLOSURE_S = 0.056  # that lips stay together: more than a frame, so that one frame shows it
CLOSURE_RAMP_S = 0.045  # to close, and to open again
BEFORE_S, AFTER_S = 0.13, 0.16  # of movement before and after a stretch of speech
STRESSED, UNSTRESSED = 1.08, 0.92  # factors on the opening
MIN_OPENING = 0.004  # smaller ones count as closed


@dataclass(frozen=True)
class Segment:
    """One viseme from ``start`` to ``end``, in seconds, and the phoneme that it is of."""

    start: float
    end: float
    viseme: str
    phoneme: str
    stressed: bool = False


def segments(phonemes: list[tuple[float, str]], seconds: float) -> list[Segment]:
    """The visemes of phonemes that begin at these times; the last one ends at `seconds`."""
    found: list[Segment] = []
    ends = [start for start, _ in phonemes[1:]] + [seconds]
    for (start, name), end in zip(phonemes, ends, strict=True):
        kinds, stressed = of_phoneme(name)
        cuts = np.linspace(start, end, len(kinds) + 1)
        if end > start:
            pieces = zip(kinds, cuts, cuts[1:], strict=False)
            found += [Segment(float(a), float(b), kind, name, stressed) for kind, a, b in pieces]
    return found


def mouth_track(said: list[Segment], times: npt.NDArray[np.float64], liveliness: float = 1.0) -> list[MouthState]:
    """The mouth at each of `times` (seconds); `liveliness` is a factor on how far it opens."""
    length = max([float(times.max()) if len(times) else 0.0, *(s.end for s in said)]) + 0.5
    grid = np.arange(round(length * STEPS_PER_SECOND)) / STEPS_PER_SECOND
    values = _smoothed(said, grid)
    values[:, :2] *= liveliness
    _hold(values, said, grid)
    values *= _speech_gate(said, grid)[:, None]
    low = np.array([-1.0 if name == "width" else 0.0 for name in NAMES])
    values = np.clip(values, low, 1.0)
    at = np.stack([np.interp(times, grid, column) for column in values.T], axis=1)
    at[at[:, 0] < MIN_OPENING, 0] = 0.0
    return [MouthState.of(row) for row in at]


def _smoothed(said: list[Segment], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[T, 9]``: the aims, weighed and blurred over time."""
    weight = np.full(len(grid), VISEMES[REST].weight)
    aim = np.zeros((len(grid), len(NAMES)))
    for part in said:
        viseme = VISEMES[part.viseme]
        span = (grid >= part.start) & (grid < part.end)
        weight[span] = viseme.weight
        aim[span] = astuple(viseme.aim)
        aim[span, :2] *= STRESSED if part.stressed else UNSTRESSED
    columns = []
    for k, name in enumerate(NAMES):
        kernel = np.hanning(max(3, round(REACH_S[name] * STEPS_PER_SECOND)) + 2)
        columns.append(np.convolve(weight * aim[:, k], kernel, "same") / np.convolve(weight, kernel, "same"))
    return np.stack(columns, axis=1)


def _hold(values: npt.NDArray[np.float64], said: list[Segment], grid: npt.NDArray[np.float64]) -> None:
    """Bring the opening down to where a sound needs it: lips meet for M whatever is around it."""
    for part in said:
        viseme = VISEMES[part.viseme]
        if viseme.hold > 0:
            middle, half = (part.start + part.end) / 2, max(part.end - part.start, MIN_CLOSURE_S) / 2
            strength = np.clip(1 - (np.abs(grid - middle) - half) / CLOSURE_RAMP_S, 0, 1) * viseme.hold
            for k in (0, 1):
                lower = np.minimum(values[:, k], astuple(viseme.aim)[k])
                values[:, k] += (lower - values[:, k]) * strength
            for k, name in enumerate(NAMES):
                if name in ("press", "tuck") and astuple(viseme.aim)[k]:
                    values[:, k] = np.maximum(values[:, k], strength)


def _speech_gate(said: list[Segment], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 in speech, 0 in silence, with a smooth way between."""
    gate = np.zeros(len(grid))
    for part in said:
        if part.viseme != REST:
            rise = np.clip((grid - part.start + BEFORE_S) / (BEFORE_S - 0.03), 0, 1)
            fall = np.clip((part.end + AFTER_S - grid) / AFTER_S, 0, 1)
            gate = np.maximum(gate, np.minimum(rise, fall))
    return gate * gate * (3 - 2 * gate)
