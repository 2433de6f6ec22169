"""The motion of a head: it sways, nods with the voice, looks about and blinks."""

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.pose import Pose

Track = npt.NDArray[np.float64]

BLINK_S = 0.2


def pose_track(times: Track, seed: int, amount: float = 1.0, loudness: Track | None = None) -> list[Pose]:
    """A pose for each of `times` (seconds): `amount` scales how far the head moves, `loudness` (0 to 1) nods it."""
    rng = np.random.default_rng([seed, 0x60])
    voice = np.zeros(len(times)) if loudness is None else loudness
    side = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.8))
    gaze = _glances(times, rng)
    tracks = {
        "yaw": amount * (0.1 * _drift(times, rng) + 0.04 * float(rng.uniform(-1, 1))),
        "pitch": amount * (0.045 * _drift(times, rng) + 0.05 * (voice - 0.3)),
        "roll": amount * 0.05 * _drift(times, rng),
        "x": amount * 9 * _drift(times, rng),
        "y": amount * 4 * _drift(times, rng),
        "blink": _blinks(times, rng),
        "brows": 0.35 * _drift(times, rng) + 0.5 * voice * amount,
        "light": np.clip(side + 0.3 * _drift(times, rng), -0.9, 0.9),
    }
    rows = np.stack(list(tracks.values()), axis=1)
    return [
        Pose(**dict(zip(tracks, row.tolist(), strict=True)), gaze=(float(x), float(y)))
        for row, (x, y) in zip(rows, gaze, strict=True)
    ]


def _drift(times: Track, rng: np.random.Generator) -> Track:
    """A slow wander about 0, mostly within -1 to 1."""
    total = np.zeros(len(times))
    for hertz, weight in ((0.11, 0.55), (0.27, 0.35), (0.6, 0.14)):
        total += weight * np.sin(2 * np.pi * (hertz * rng.uniform(0.7, 1.3) * times + rng.uniform()))
    return total


def _blinks(times: Track, rng: np.random.Generator) -> Track:
    shut = np.zeros(len(times))
    at, end = float(rng.uniform(0.5, 2.5)), float(times[-1]) if len(times) else 0.0
    while at < end:
        phase = np.clip((times - at) / BLINK_S, 0, 1)
        shut = np.maximum(shut, np.clip(1.35 * np.sin(np.pi * phase**0.7), 0, 1))
        at += float(rng.uniform(1.8, 4.5))
    return shut


def _glances(times: Track, rng: np.random.Generator) -> Track:
    """``[T, 2]``: eyes rest on a point for a while, then leap to the next."""
    points = [np.zeros(2)]
    starts = [0.0]
    while starts[-1] < (float(times[-1]) if len(times) else 0.0):
        starts.append(starts[-1] + float(rng.uniform(0.8, 2.6)))
        points.append(rng.uniform((-0.7, -0.35), (0.7, 0.35)) * float(rng.random() < 0.6))
    columns = []
    for k in (0, 1):
        leaps = np.diff([p[k] for p in points], prepend=0.0)
        eased = np.clip((times[:, None] - np.array(starts)) / 0.07, 0, 1)
        columns.append(eased @ leaps)
    return np.stack(columns, axis=1)
