"""Drawn clips on disk: each a video, and a JSON file with the truth of every frame."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from musetalk_drawn.figure.artist import Artist
from musetalk_drawn.script import FPS, Script
from musetalk_drawn.spec import ClipSpec
from musetalk_drawn.video_writer import VideoWriter
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.storage.output_file import write_output

Progress = Callable[[int, int, str], None]
"""Called with how many clips are done, how many there are to be, and the id of the last one."""

MAX_CLIPS = 100_000


def draw_clips(
    folder: Path, count: int, seed: int, held_out: bool = False, size: int = 512, progress: Progress | None = None
) -> list[Path]:
    """Write the clips of the seeds from `seed` on, `count` of them, into `folder`; gives their videos.

    Clips that are there already are left as they are, so that an interrupted call can be made again. Raises
    InvalidArgument, MachineError without eSpeak NG, or OutputError; whole clips then stay, and nothing half made.
    """
    if not 1 <= count <= MAX_CLIPS:
        raise InvalidArgument(f"{count=} is out of range {[1, MAX_CLIPS]}")
    if seed < 0:
        raise InvalidArgument(f"{seed=}, expected 0 or more")
    videos = []
    for k in range(count):
        spec = ClipSpec.from_seed(seed + k, held_out, size)
        video = folder / f"{spec.id}.mp4"
        if not (video.is_file() and video.with_suffix(".json").is_file()):
            write_clip(folder, spec)
        videos.append(video)
        if progress is not None:
            progress(k + 1, count, spec.id)
    return videos


def write_clip(folder: Path, spec: ClipSpec) -> Path:
    """Write ``<id>.mp4`` and ``<id>.json`` into `folder`, which is made if need be; gives the video.

    Raises MachineError without eSpeak NG, or OutputError; there are then no such files.
    """
    script = Script.of(spec)
    video = folder / f"{spec.id}.mp4"
    artist = Artist(spec.speaker.who, spec.size, spec.seed)
    make_folder(folder)
    write_output(video, _encode(script, artist))
    try:
        write_output(video.with_suffix(".json"), json.dumps(_truth(spec, script, artist)) + "\n")
    except OutputError:
        video.unlink()
        raise
    return video


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it if need be; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error


def _encode(script: Script, artist: Artist) -> bytes:
    step = SAMPLE_RATE // FPS
    encoded = io.BytesIO()
    with VideoWriter(encoded, artist.size, FPS) as video:
        for k, (state, pose) in enumerate(zip(script.mouths, script.poses, strict=True)):
            video.write(artist.draw(state, pose), script.pcm[k * step : (k + 1) * step])
    return encoded.getvalue()


def _truth(spec: ClipSpec, script: Script, artist: Artist) -> dict[str, Any]:
    voice = spec.speaker.voice
    return {
        "id": spec.id,
        "speaker": spec.speaker.id,
        "voice": {"name": voice.name, "speed": voice.speed, "pitch": voice.pitch, "range": voice.range},
        "text": " ".join(spec.sentences),
        "seed": spec.seed,
        "held_out": spec.held_out,
        "noise_db": spec.noise,
        "room_seconds": spec.reverberation,
        "fps": FPS,
        "face_box": [list(artist.box(pose)) for pose in script.poses],
        **{
            name: [round(getattr(mouth, name), 4) for mouth in script.mouths]
            for name in ("opening", "width", "rounding", "jaw")
        },
        "visemes": [[round(s.start, 4), round(s.end, 4), s.viseme, s.phoneme] for s in script.said],
    }
