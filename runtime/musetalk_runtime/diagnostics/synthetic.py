"""A drawn face and a voice-like sound, for benchmarks and self tests."""

import wave
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.output.x264 import has_x264

FPS = 25
SIDE = 512  # of the drawing, in the middle of its picture
FACE_BOX: Box = (164, 150, 348, 400)  # in the drawing
ROOM_NOISE = 60.0  # of 32768, root mean square
SHIFT = 4  # fraction bits of the drawing's coordinates

SKIN, SHADE, HAIR, LIPS, SHIRT = (226, 178, 148), (205, 152, 124), (74, 50, 38), (178, 84, 84), (56, 88, 120)


def write_face_video(file: Path, frames: int, width: int = SIDE, height: int = SIDE) -> Box:
    """Write `frames` frames of the drawn face, swaying a little, at 25 fps; gives the box of the face.

    `width` and `height` are even and at least 512. It is H.264, or MPEG-4 where PyAV was built without libx264.
    """
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    margins = (top, height - SIDE - top, left, width - SIDE - left)
    with av.open(str(file), "w") as container:
        options = {"crf": "14", "preset": "fast"} if has_x264() else {"qscale": "2"}
        stream: Any = container.add_stream("libx264" if has_x264() else "mpeg4", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(frames):
            picture = cv2.copyMakeBorder(draw_face(k / FPS), *margins, cv2.BORDER_REPLICATE)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return FACE_BOX[0] + left, FACE_BOX[1] + top, FACE_BOX[2] + left, FACE_BOX[3] + top


def draw_face(t: float) -> npt.NDArray[np.uint8]:
    """The face at `t` seconds, RGB ``[512, 512, 3]``."""
    light = np.linspace(1.0, 0.8, SIDE)[:, None, None]
    picture = np.ascontiguousarray((np.full((SIDE, SIDE, 3), (196, 208, 214)) * light).astype(np.uint8))
    x, y = 256 + 4 * np.sin(2 * np.pi * t / 4), 262 + 2 * np.sin(2 * np.pi * t / 3)
    _ellipse(picture, (256, 560), (210, 150), SHIRT)
    _ellipse(picture, (256, 420), (52, 80), SHADE)
    _ellipse(picture, (x, y - 22), (112, 142), HAIR)
    for side in (-1, 1):
        _ellipse(picture, (x + 94 * side, y + 10), (14, 26), SHADE)
    _ellipse(picture, (x, y + 12), (92, 122), SKIN)
    _ellipse(picture, (x, y - 96), (88, 34), HAIR)
    blink = 0.15 if t % 3.1 > 2.95 else 1.0
    for side in (-1, 1):
        _eye(picture, x + 38 * side, y - 12, blink)
    _ellipse(picture, (x, y + 32), (11, 15), SHADE)
    _ellipse(picture, (x, y + 76), (31, 10), LIPS)
    _ellipse(picture, (x, y + 76), (27, 2), SHADE)
    return picture


def write_voice(file: Path, seconds: float, silence: float = 0.0) -> None:
    """Write a voice-like buzz, with syllables and a moving pitch but no pause, as a 16 kHz mono WAV.

    In it is the noise of a quiet room, without which AAC takes three times as long as for recorded speech. `silence`
    seconds of silence follow.
    """
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        for second in range(int(np.ceil(seconds))):
            count = round(min(1.0, seconds - second) * SAMPLE_RATE)
            voice = _voice(second * SAMPLE_RATE + np.arange(count))
            voice += np.random.default_rng(second).normal(0, ROOM_NOISE, count)
            out.writeframes(voice.astype("<i2").tobytes())
        out.writeframes(bytes(2 * round(silence * SAMPLE_RATE)))


def _voice(samples: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    t = samples / SAMPLE_RATE
    phase = 2 * np.pi * 115 * t - 12 * np.cos(2 * np.pi * 0.3 * t)
    formant = 600 + 250 * np.sin(2 * np.pi * 1.3 * t)
    weights = [np.exp(-(((n * 115 - formant) / 500) ** 2)) + 0.3 / n for n in range(1, 24)]
    buzz = sum(weight * np.sin(n * phase) for n, weight in enumerate(weights, 1))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t) + 0.4, 0, 1)
    voice: npt.NDArray[np.float64] = buzz * syllables * 2500
    return voice


def _eye(picture: npt.NDArray[np.uint8], x: float, y: float, opening: float) -> None:
    _ellipse(picture, (x, y), (17, 9 * opening), (250, 250, 248))
    _ellipse(picture, (x, y), (8, 8 * opening), (70, 96, 120))
    _ellipse(picture, (x, y), (4, 4 * opening), (20, 20, 24))
    _ellipse(picture, (x, y - 24), (21, 4), HAIR)


def _ellipse(
    picture: npt.NDArray[np.uint8],
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    scale = 1 << SHIFT
    at, size = (tuple(round(value * scale) for value in pair) for pair in (centre, radii))
    cv2.ellipse(picture, at, size, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, SHIFT)
