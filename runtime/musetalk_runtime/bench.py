"""The chain's speed and memory over a fixed synthetic input."""

import tempfile
from pathlib import Path
from typing import Any

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.session import Session
from musetalk_runtime.synthetic import SIDE, write_face_video, write_voice
from musetalk_runtime.timings import memory_mb

AVATAR_FRAMES = 25
MEMORY_SAMPLES = 20
NOT_MEASURED = [
    "opening the bundle and the avatar (peak_memory_mb holds the making of the drawn one)",
    "writing the stream anywhere: it is thrown away",
    "a real voice: the synthetic one is silent for a fifth of the time, which costs less",
]


def bench(
    bundle: Bundle, avatar: Avatar | None, seconds: float, fps: str, size: tuple[int, int] = (SIDE, SIDE)
) -> dict[str, Any]:
    """Stream `seconds` of synthetic speech twice, first one second to warm up, and report on the second run.

    Without an `avatar` a drawn one of `size` (width, height) is made. ``memory_mb`` maps seconds of the stream to the
    resident size then.
    """
    with tempfile.TemporaryDirectory(prefix="musetalk-edge-") as folder:
        work = Path(folder)
        if avatar is None:
            avatar = _drawn_avatar(bundle.path, work, size)
        write_voice(work / "warm-up.wav", 1.0)
        write_voice(work / "voice.wav", seconds)
        _run(bundle, avatar, work / "warm-up.wav", fps, 1.0)
        report = _run(bundle, avatar, work / "voice.wav", fps, seconds)
    return {**report, "width": avatar.width, "height": avatar.height, "not_measured": NOT_MEASURED}


def _run(bundle: Bundle, avatar: Avatar, audio: Path, fps: str, seconds: float) -> dict[str, Any]:
    memory: dict[float, float] = {}
    size = 0
    with Session(bundle, avatar, audio, fps) as session:
        for data in session.stream():
            size += len(data)
            now = float(session.frames_made / session.fps)
            if now >= len(memory) * seconds / MEMORY_SAMPLES:
                memory[round(now, 2)] = round(memory_mb(), 1)
        return {**session.report(), "bytes": size, "memory_mb": memory}


def _drawn_avatar(bundle: Path, work: Path, size: tuple[int, int]) -> Avatar:
    box = write_face_video(work / "face.mp4", AVATAR_FRAMES, *size)
    with Bundle.open(bundle) as encoder:
        prepare_avatar(work / "face.mp4", encoder, work / "avatar", PrepareOptions(face_box=box))
    return Avatar.open(work / "avatar")
