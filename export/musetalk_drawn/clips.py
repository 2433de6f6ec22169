"""Write drawn clips: each a video, and a JSON file with the truth."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av.error

from musetalk_drawn.figure.face import Artist
from musetalk_drawn.movie import Movie
from musetalk_drawn.script import FPS, Script
from musetalk_drawn.spec import ClipSpec
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.core.model import SAMPLE_RATE

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
    with aside(folder, spec.id) as work:
        _write_movie(work / video.name, script, artist)
        notes = work / f"{spec.id}.json"
        notes.write_text(json.dumps(_notes(spec, script, artist)) + "\n", encoding="utf-8")
        (work / video.name).replace(video)
        try:
            notes.replace(folder / notes.name)
        except OSError:
            video.unlink()
            raise
    return video


def _write_movie(file: Path, script: Script, artist: Artist) -> None:
    step = SAMPLE_RATE // FPS
    with Movie(file, artist.size, FPS) as movie:
        for k, (state, pose) in enumerate(zip(script.mouths, script.poses, strict=True)):
            movie.write(artist.draw(state, pose), script.pcm[k * step : (k + 1) * step])


def _notes(spec: ClipSpec, script: Script, artist: Artist) -> dict[str, Any]:
    voice = spec.speaker.voice
    return {
        "id": spec.id,
        "speaker": spec.speaker.id,
        "voice": {"name": voice.name, "speed": voice.speed, "pitch": voice.pitch, "range": voice.range},
        "text": " ".join(spec.sentences),
        "seed": spec.seed,
        "held_out": spec.held_out,
        "noise_db": spec.noise,
        "room_seconds": spec.room,
        "fps": FPS,
        "face_box": [list(artist.box(pose)) for pose in script.poses],
        **{
            name: [round(getattr(mouth, name), 4) for mouth in script.mouths]
            for name in ("opening", "width", "rounding", "jaw")
        },
        "visemes": [[round(s.start, 4), round(s.end, 4), s.viseme, s.phoneme] for s in script.said],
    }


@contextmanager
def aside(folder: Path, name: str) -> Iterator[Path]:
    """Give an empty folder in `folder`, gone afterwards; what cannot be written raises OutputError."""
    work: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=folder))
        yield work
    except (OSError, av.error.FFmpegError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder / name}: cannot be written: {error.strerror or error}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
