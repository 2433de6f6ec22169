"""An avatar of three clips, made on the spot."""

from pathlib import Path

import numpy as np

from helpers.media import moving_picture, write_video
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

IDLE, NOD, WAVE = 12, 30, 50  # frames
BOX = (200, 60, 340, 220)  # leaves the frame on the right
ALIKE = 7, 5  # the frame of "wave" that shows what this frame of "idle" does; all others show more


def make_posed_avatar(bundle: Path, folder: Path) -> Path:
    """Clips of a moving pattern, 320x240 at 25 fps: "idle", "nod" which is darker, and "wave" with a bright bar."""
    clips = {
        "idle": [moving_picture(k) for k in range(IDLE)],
        "nod": [(moving_picture(k) * 0.7).astype(np.uint8) for k in range(NOD)],
        "wave": [_wave(k) for k in range(WAVE)],
    }
    folder.mkdir(exist_ok=True)
    for name, frames in clips.items():
        write_video(folder / f"{name}.mp4", frames)
    with Bundle.open(bundle) as opened:
        prepare_avatar(
            {name: folder / f"{name}.mp4" for name in clips}, opened, folder / "posed", PrepareOptions(face_box=BOX)
        )
    return folder / "posed"


def _wave(k: int) -> np.ndarray:
    """A bar at the left, as bright as the frame is far from the one that is like a frame of "idle"."""
    picture = moving_picture(k - ALIKE[0] + ALIKE[1])
    bar = picture[:, :120]
    bar[:] = np.clip(bar + 4.0 * min(20, abs(k - ALIKE[0])), 0, 255).astype(np.uint8)
    return picture
