"""Draw one person: room, clothes, head, mouth."""

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.body import draw_body
from musetalk_drawn.figure.canvas import SIDE, Canvas
from musetalk_drawn.figure.extras import draw_freckles, draw_glasses
from musetalk_drawn.figure.eyes import draw_eyes
from musetalk_drawn.figure.hair import Hair
from musetalk_drawn.figure.head import NOSE, Head, chin_y
from musetalk_drawn.figure.identity import Identity
from musetalk_drawn.figure.mouth import draw_mouth
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.pose import Pose
from musetalk_drawn.figure.room import draw_room
from musetalk_runtime.avatar.box import Box, face_box

SIDES = 94.0  # of the face's box, from its middle
UNDER_CHIN = 13.0  # pixels that YuNet's box ends below the drawn chin


class Artist:
    """Draws one person in one room, again and again."""

    def __init__(self, who: Identity, size: int = SIDE, room: int = 0) -> None:
        """Paint the room once; `size` is the side of the square frames in pixels, `room` the seed of its shapes."""
        self.who, self.size = who, size
        self._room = Canvas(size)
        draw_room(self._room, who, room)

    def draw(self, state: MouthState, pose: Pose) -> npt.NDArray[np.uint8]:
        """The person at one moment, RGB ``[size, size, 3]``."""
        canvas = self._room.copy()
        head, hair = Head(canvas, self.who, pose, state), Hair(canvas, self.who, pose)
        hair.draw_back()
        head.draw_neck()
        draw_body(canvas, self.who, pose)
        head.draw_ears()
        face = head.draw_face()
        draw_freckles(canvas, self.who, pose, face)
        head.draw_nose()
        draw_mouth(canvas, self.who, pose, state)
        draw_eyes(canvas, self.who, pose)
        hair.draw_front(face)
        draw_glasses(canvas, self.who, pose)
        return canvas.rgb()

    def box(self, pose: Pose) -> Box:
        """The model's box of the face by the runtime's rule, with the chin where it is at rest."""
        scale = self._room.scale
        marks = [(-43, 0), (43, 0), (0, NOSE)]
        right, left, nose = pose.place(np.array(marks), [50, 50, 90]) * scale
        chin = pose.place(np.array([(0.0, chin_y(self.who) + UNDER_CHIN)]), 0)[0] * scale
        side = SIDES * self.who.face * scale
        middle = float(pose.place(np.array([(0.0, 40.0)]), 20)[0, 0]) * scale
        found = np.array([middle - side, 0, middle + side, chin[1], *right, *left, *nose, *nose, *nose])
        box = face_box(found)
        assert box is not None  # noqa: S101  # a drawn nose is above its chin
        return box
