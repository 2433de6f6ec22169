#!/usr/bin/env python3
"""What poses cost on this CPU, and how even a switch is.

    PYTHONPATH=runtime python scripts/bench/poses.py > OUT.json

Prints JSON. ``search``: milliseconds to find where two clips of 60 s are alike. ``blend``: milliseconds to blend two
frames, by their size. ``stream``: milliseconds of CPU time a frame of the demo, composed, with one clip and with a
switch every second, in turns; ``times`` is their ratio, and ``fading`` the share of frames that fade then. ``jump``:
the largest mean absolute difference of consecutive frames, without a switch and with, and of two frames that fade.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import av
import numpy as np

from musetalk_runtime import Avatar, Bundle, Frame, Session
from musetalk_runtime.avatar.clips import Clip
from musetalk_runtime.avatar.pack import THUMBNAIL_SIZE
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.crossfade import blended
from musetalk_runtime.backends.interface import empty_frame
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.diagnostics.processor import processor
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.session_hooks import SessionHooks

FPS = Fraction(25)
RUNS, LONGEST = 5, 1500  # frames of a clip, 60 s
SIZES = {"1280x720": (1080, 1280), "1920x1080": (1620, 1920)}  # of NV12
LEAN = 24  # pixels by which the second clip's person stands elsewhere


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Bundle.open(BUNDLE) as bundle,
        Avatar.open(leaning(bundle, Path(folder))) as avatar,
    ):
        streams = measure_streams(bundle, avatar)
    report = {
        **processor(),
        "search": spread(search_ms),
        "blend": {name: blend(*SIZES[name]) for name in SIZES},
        **streams,
    }
    print(json.dumps(report, indent=1))


def search_ms() -> float:
    """Milliseconds of CPU time of one search."""
    thumbnails = np.random.default_rng(0).integers(0, 256, (2 * LONGEST, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    clips = Clip("idle", 0, LONGEST), Clip("other", LONGEST, LONGEST)
    player = PosePlayer(stand_in(clips, thumbnails), FPS)
    player.ask("other", repeat=True)
    begin = time.process_time()
    player.shown(0)
    return (time.process_time() - begin) * 1e3


def stand_in(clips: tuple[Clip, ...], thumbnails: Any) -> Any:
    """What a player asks of an avatar."""
    return SimpleNamespace(clips=clips, thumbnails=thumbnails, fps=FPS, poses=tuple(clip.name for clip in clips))


def blend(height: int, width: int) -> dict[str, float]:
    frames = np.random.default_rng(0).integers(16, 236, (2, height, width), np.uint8)

    def run() -> float:
        begin = time.process_time()
        for _ in range(20):
            blended(frames[0], frames[1], 0.4, empty_frame)
        return (time.process_time() - begin) / 20 * 1e3

    return spread(run)


def leaning(bundle: Bundle, folder: Path) -> Path:
    """The demo's person, and the same a little to the side."""
    clips = {"idle": folder / "idle.mp4", "lean": folder / "lean.mp4"}
    with Avatar.open(AVATAR) as avatar:
        frames = [Frame(0, FPS, avatar.frame(k), np.empty((1, 0), np.float32)).rgb() for k in range(100)]
        write(clips["idle"], frames[:50])
        write(clips["lean"], [np.roll(rgb, LEAN, axis=1) for rgb in frames[50:]])
        options = PrepareOptions(face_box=tuple(avatar.boxes[0].tolist()))
        prepare_avatar(clips, bundle, folder / "avatar", options)
    return folder / "avatar"


def write(file: Path, frames: list[Any]) -> None:
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream("libx264", FPS, {"crf": "8"})
        (stream.height, stream.width), stream.pix_fmt = frames[0].shape[:2], "yuv420p"
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def measure_streams(bundle: Bundle, avatar: Avatar) -> dict[str, Any]:
    costs: dict[bool, list[float]] = {False: [], True: []}
    jumps: dict[bool, float] = {}
    for _ in range(RUNS):
        for switching, found in costs.items():
            player = player_of(avatar, switching)
            begin = time.process_time()
            with Session(bundle, avatar, SPEECH, FPS, SessionHooks(poses=player)) as session:
                frames = [frame.nv12 for frame in session.frames()]
            found.append((time.process_time() - begin) / len(frames) * 1e3)
            jumps[switching] = max(apart(a, b) for a, b in pairwise(frames))
    player = player_of(avatar, True)
    shown = [player.shown(k) for k in range(len(frames))]
    cut = max(apart(avatar.frame(one.frame), avatar.frame(one.into)) for one in shown if one.into is not None)
    plain, switched = (round(median(costs[switching]), 2) for switching in (False, True))
    share = sum(one.into is not None for one in shown) / len(shown)
    return {
        "stream": {
            "plain_ms": plain,
            "switching_ms": switched,
            "times": round(switched / plain, 3),
            "fading": round(share, 2),
        },
        "jump": {"plain": round(jumps[False], 2), "switching": round(jumps[True], 2), "cut": round(cut, 2)},
    }


def player_of(avatar: Avatar, switching: bool) -> PosePlayer:
    player = PosePlayer(avatar, FPS)
    for second in range(60 if switching else 0):
        player.ask(("lean", "idle")[second % 2], repeat=True, at=second)
    return player


def apart(a: Any, b: Any) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def spread(run: Callable[[], float]) -> dict[str, float]:
    found = [run() for _ in range(2 * RUNS)]
    return {"least_ms": round(min(found), 2), "median_ms": round(median(found), 2)}


if __name__ == "__main__":
    main()
