"""The demo's media: a video of its person, who listens, and the speech that she says."""

import io
import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np

from musetalk_drawn.clips import make_folder
from musetalk_drawn.figure.artist import Artist
from musetalk_drawn.figure.identity import DEMO, Identity
from musetalk_drawn.figure.motion import pose_track
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.script import FPS, Script
from musetalk_drawn.spec import ClipSpec, Speaker
from musetalk_drawn.speech.espeak import Voice
from musetalk_drawn.video_writer import VideoWriter
from musetalk_runtime.avatar.box import Box
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.storage.output_file import write_output

LISTENER_MOTION = 0.55  # share of a speaker's movement
LIGHT = -0.55  # see Pose.light
MAX_SECONDS = 600.0  # of an avatar's video

TEXT = (
    "Hello. I am a drawing, and nobody has drawn my mouth.",
    "It moves as you see because of what you hear, and it is made while you watch.",
    "Give me words of your own, and I will say them too.",
)
PAUSES = (0.4, 0.45, 0.45, 0.7)
SPEAKER = Speaker("demo", DEMO, Voice("en+f4", 158, 48, 60))  # not a voice of the training clips


def write_avatar_video(path: Path, seconds: float, seed: int, size: int = 512, who: Identity = DEMO) -> list[Box]:
    """Write a silent MP4 of `who`, to make an avatar from; gives the box of the face in each frame.

    25 frames a second, `size` x `size` pixels; the mouth is closed. Raises InvalidArgument, or
    OutputError with nothing written.
    """
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidArgument(f"{seconds=:g} is out of range (0, {MAX_SECONDS:g}]")
    artist = Artist(who, size)
    times = np.arange(max(1, round(seconds * FPS))) / FPS
    poses = [replace(pose, light=LIGHT) for pose in pose_track(times, seed, LISTENER_MOTION)]
    make_folder(path.parent)
    encoded = io.BytesIO()
    with VideoWriter(encoded, size, FPS, sound=False) as video:
        for pose in poses:
            video.write(artist.draw(MouthState(), pose))
    write_output(path, encoded.getvalue())
    return [artist.box(pose) for pose in poses]


def write_sample(folder: Path) -> None:
    """Write ``speech.wav`` (mono, 16 kHz) and ``speech.json``, with the mouth's opening at each 25th of a second.

    Raises MachineError without eSpeak NG, or OutputError.
    """
    script = Script.of(ClipSpec(0, SPEAKER, TEXT, PAUSES))
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(script.pcm.tobytes())
    write_output(folder / "speech.wav", encoded.getvalue())
    truth = {"fps": FPS, "text": " ".join(TEXT), "opening": [round(mouth.opening, 4) for mouth in script.mouths]}
    write_output(folder / "speech.json", json.dumps(truth) + "\n")
