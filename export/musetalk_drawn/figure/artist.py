"""The artist, who draws one person before one background."""

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.body import draw_body
from musetalk_drawn.figure.canvas import SIDE, Canvas
from musetalk_drawn.figure.curve import ellipse
from musetalk_drawn.figure.eyes import draw_eyes, draw_glasses
from musetalk_drawn.figure.hair import Hair
from musetalk_drawn.figure.head import NOSE, Head, chin_y
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.mouth import draw_mouth
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.palette import lit, mix
from musetalk_drawn.figure.pose import Pose
from musetalk_runtime.avatar.box import Box, face_box

BOX_HALF_WIDTH = 94.0  # pixels of a 512 picture, from the middle of the face
UNDER_CHIN = 13.0  # pixels that YuNet's box ends below the drawn chin


class Artist:
    """Draws one person before one background, again and again."""

    def __init__(self, who: Identity, size: int = SIDE, background_seed: int = 0) -> None:
        """Paint the background once, from its seed; `size` is the side of the square frames in pixels."""
        self.who, self.size = who, size
        self._background = Canvas(size)
        _draw_background(self._background, who, background_seed)

    def draw(self, state: MouthState, pose: Pose) -> npt.NDArray[np.uint8]:
        """The person at one moment, RGB ``[size, size, 3]``."""
        canvas = self._background.copy()
        head, hair = Head(canvas, self.who, pose, state), Hair(canvas, self.who, pose)
        hair.draw_back()
        head.draw_neck()
        draw_body(canvas, self.who, pose)
        head.draw_ears()
        face = head.draw_face()
        head.draw_freckles(face)
        head.draw_nose()
        draw_mouth(canvas, self.who, pose, state)
        draw_eyes(canvas, self.who, pose)
        hair.draw_front(face)
        draw_glasses(canvas, self.who, pose)
        return canvas.rgb()

    def box(self, pose: Pose) -> Box:
        """The model's box of the face by the runtime's rule, with the chin where it is at rest."""
        scale = self._background.scale
        marks = [(-43, 0), (43, 0), (0, NOSE)]
        right, left, nose = pose.place(np.array(marks), [50, 50, 90]) * scale
        chin = pose.place(np.array([(0.0, chin_y(self.who) + UNDER_CHIN)]), 0)[0] * scale
        side = BOX_HALF_WIDTH * self.who.face * scale
        middle = float(pose.place(np.array([(0.0, 40.0)]), 20)[0, 0]) * scale
        found = np.array([middle - side, 0, middle + side, chin[1], *right, *left, *nose, *nose, *nose])
        box = face_box(found)
        assert box is not None  # noqa: S101  # a drawn nose is above its chin
        return box


def _draw_background(canvas: Canvas, who: Identity, seed: int) -> None:
    """Paint the whole canvas: a soft gradient with a few large, blurred shapes."""
    rng = np.random.default_rng([seed, 0x20])
    high, low = who.background
    share = np.linspace(0, 1, canvas.size, dtype=np.float32)[:, None]
    for plane, a, b in zip(canvas.planes, high, low, strict=True):
        plane[:] = a + (b - a) * share
    for k in range(4):
        at = (float(rng.uniform(0, SIDE)), float(rng.uniform(0, SIDE * 0.8)))
        radius = float(rng.uniform(40, 130))
        colour = lit(high, 0.5) if k % 2 else mix(low, (60, 60, 90), 0.15)
        canvas.soft(ellipse(at, (radius, radius)), colour, float(rng.uniform(4, 26)), 0.4)
    canvas.soft(ellipse((256, 220), (180, 190)), lit(high, 0.6), 60, 0.5)
