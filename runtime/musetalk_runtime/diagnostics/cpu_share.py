"""The share of a CPU core that a stream takes at the pace of real time, and libx264's part of it."""

import os
import time
from pathlib import Path
from typing import Any

import av

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import Bytes
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.output.x264 import X264
from musetalk_runtime.session import Session

MAX_KEPT_BYTES = 400_000_000  # of frames, to be encoded once more


def measure_cpu_share(bundle: Bundle, avatar: Avatar, audio: Path, fps: str) -> dict[str, Any]:
    """Stream `audio` to nowhere, each frame taken when it is due, and say what it took.

    ``cpu_share_of_a_core`` is this process's CPU time by the time that passed; ``x264_share`` is libx264's part of it,
    found by encoding the same frames alone, None where another encoder was used; ``without_x264`` is the rest. ``fps``
    below that of the stream says that the machine did not keep up.
    """
    kept: list[Bytes] = []
    begin, cpu = time.perf_counter(), time.process_time()
    with Session(bundle, avatar, audio, fps) as session:
        picture = Picture(avatar.width, avatar.height, session.fps)
        with (
            open(os.devnull, "wb") as nowhere,  # noqa: PTH123
            Muxer(nowhere, "mp4", picture, session.audio.channels, VideoOptions()) as muxer,
        ):
            for frame in session.frames():
                muxer.sound(frame.sound)
                muxer.frame(frame.index, frame.nv12)
                if (len(kept) + 1) * frame.nv12.nbytes <= MAX_KEPT_BYTES:
                    kept.append(frame.nv12)
                time.sleep(max(0.0, begin + float((frame.index + 1) / session.fps) - time.perf_counter()))
        wall, share = time.perf_counter() - begin, time.process_time() - cpu
        frames = session.frames_made
    share /= wall
    x264 = x264_seconds(kept, picture) / len(kept) * frames / wall if muxer.encoder == X264.name else None
    return {
        "frames": frames,
        "fps": round(frames / wall, 2),
        "cpu_share_of_a_core": round(share, 4),
        "x264_share": None if x264 is None else round(x264, 4),
        "without_x264": round(share if x264 is None else share - x264, 4),
    }


def x264_seconds(frames: list[Bytes], picture: Picture) -> float:
    """CPU seconds that the runtime's libx264 takes, in all its threads, for `frames` of `picture`."""
    with av.open(os.devnull, "w", format="mp4") as container:
        encoder = X264(container, picture, VideoOptions("x264"))
        begin = time.process_time()
        for index, nv12 in enumerate(frames):
            encoder.encode(index, nv12)
        encoder.finish()
        return time.process_time() - begin
