"""The demo's person, who listens: mouth closed, blinking, moving a little."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from musetalk_drawn.clips import aside
from musetalk_drawn.figure.face import Artist
from musetalk_drawn.figure.identity import DEMO, Identity
from musetalk_drawn.figure.motion import pose_track
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.movie import Movie
from musetalk_drawn.script import FPS
from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.errors import InvalidArgument

STILLNESS = 0.55  # of the movement of one who speaks
LIGHT = -0.55
LONGEST = 600.0


def write_avatar_video(path: Path, seconds: float, seed: int, size: int = 512, who: Identity = DEMO) -> list[Box]:
    """Write a silent MP4 of `who`, to make an avatar from; gives the box of the face in each frame.

    25 frames a second, `size` x `size` pixels. Raises InvalidArgument, or OutputError with nothing written.
    """
    if not 0 < seconds <= LONGEST:
        raise InvalidArgument(f"{seconds=:g} is out of range (0, {LONGEST:g}]")
    artist = Artist(who, size)
    times = np.arange(max(1, round(seconds * FPS))) / FPS
    poses = [replace(pose, light=LIGHT) for pose in pose_track(times, seed, STILLNESS)]
    with aside(path.parent, path.stem) as work:
        with Movie(work / path.name, size, FPS, sound=False) as movie:
            for pose in poses:
                movie.write(artist.draw(MouthState(), pose))
        (work / path.name).replace(path)
    return [artist.box(pose) for pose in poses]
