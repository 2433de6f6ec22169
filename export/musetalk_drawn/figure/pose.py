"""The pose of a head at one moment, and the place of its points in the picture."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.curve import Points

CENTRE = (256.0, 248.0)  # of the picture: where the point between the eyes is, at rest
PIVOT = 60.0  # pixels below the eyes, about which the head turns
NECK = 150.0  # pixels below the eyes, about which it tilts


@dataclass(frozen=True)
class Pose:
    """One moment of a head, without its mouth. Angles in radians, shifts in pixels of a 512 picture."""

    yaw: float = 0.0
    """Turn; above 0 to the right of the picture."""
    pitch: float = 0.0
    """Nod; above 0 down."""
    roll: float = 0.0
    """Tilt; above 0 clockwise."""
    x: float = 0.0
    y: float = 0.0
    blink: float = 0.0
    """0 open, 1 shut."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """-1 to 1 each: right and down of the picture."""
    brows: float = 0.0
    """-1 frowning to 1 raised."""
    light: float = -0.6
    """Where the light comes from: -1 the left of the picture, 1 the right."""

    def place(self, points: npt.ArrayLike, depth: npt.ArrayLike | None = None) -> Points:
        """Points of the head ``[n, 2]`` (origin between the eyes) in the picture; `depth` is the face's own if None."""
        x, y = np.asarray(points, np.float64).T
        z = surface(x, y) if depth is None else np.broadcast_to(np.asarray(depth, np.float64), x.shape)
        turned = x * np.cos(self.yaw) + z * np.sin(self.yaw)
        nodded = PIVOT + (y - PIVOT) * np.cos(self.pitch) + z * np.sin(self.pitch)
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        below = nodded - NECK
        return np.stack(
            [CENTRE[0] + self.x + turned * cos - below * sin, CENTRE[1] + self.y + NECK + turned * sin + below * cos],
            axis=1,
        )


def surface(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far the face stands out at x, y: pixels, at most 72."""
    depth: npt.NDArray[np.float64] = 72 * np.sqrt(np.clip(1 - (x / 112) ** 2 - ((y - 15) / 150) ** 2, 0, 1))
    return depth
