#!/usr/bin/env python3
"""Frames a second of libx264, AAC and MP4 alone: several at once, as threads of one process and in a process each.

    PYTHONPATH=runtime python scripts/bench/encoders.py [--encoders 16] [--threads 1] [--size 1280x720]

Each encodes the drawn face, which sways, to an MP4 that goes nowhere, as fast as it goes; ``video`` has no sound,
``stream`` has AAC too. It is the most that streams could make on this machine if frames cost nothing, and the least
CPU time that a frame could take. The figures go to stdout as JSON; of --repeat runs the median counts.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.medians import medians

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.diagnostics.synthetic import FPS, write_face_video, write_voice
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.video import Picture, VideoOptions

CLIP_FRAMES = 100  # of the drawn face, shown again and again
NOT_MEASURED = ["everything before the encoder", "fragments on their way to a viewer", "NVENC"]


@dataclass(frozen=True)
class Clip:
    """NV12 frames, and sounds of a frame's length at 48 kHz, each to be encoded in turn."""

    frames: list[np.ndarray]
    sounds: list[np.ndarray]


@dataclass(frozen=True)
class Took:
    """When an encoder began and ended, by the machine's clock, and the CPU time of its process meanwhile."""

    began: float
    ended: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", type=int, default=round(available_cores()), help="at once (default: one a core)")
    parser.add_argument("--threads", type=int, default=1, help="of libx264, each (default: 1)")
    parser.add_argument("--size", default="1280x720", help="of the drawn face (default: 1280x720)")
    parser.add_argument("--frames", type=int, default=500, help="each encoder (default: 500)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default: 3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="musetalk-edge-") as work:
        write_face_video(Path(work) / "face.mp4", CLIP_FRAMES, *map(int, args.size.split("x")))
        write_voice(Path(work) / "voice.wav", CLIP_FRAMES / FPS)
        figures = {
            kind: {
                what: medians([together(kind, what == "stream", args, Path(work)) for _ in range(args.repeat)])
                for what in ("video", "stream")
            }
            for kind in ("threads", "processes")
        }
    about = {"cores": available_cores(), "encoders": args.encoders, "threads_each": args.threads, "size": args.size}
    print(json.dumps({**about, **figures, "not_measured": NOT_MEASURED}, indent=1))


def together(kind: str, sound: bool, args: argparse.Namespace, work: Path) -> dict[str, float]:
    """Frames a second of all encoders, and CPU time of a frame."""
    count = args.encoders
    with _executor(kind, count, work) as executor:
        encoders = [executor.submit(encode, args.frames, args.threads, sound) for _ in range(count)]
        took = [encoder.result() for encoder in encoders]
    seconds = max(one.ended for one in took) - min(one.began for one in took)
    cpu = sum(one.cpu for one in took) / (count if kind == "threads" else 1)  # threads see the whole process
    return {"fps": count * args.frames / seconds, "cpu_ms_a_frame": cpu / (count * args.frames) * 1e3}


def _executor(kind: str, count: int, work: Path) -> Executor:
    if kind == "threads":
        _set_up(work, threading.Barrier(count))
        return ThreadPoolExecutor(count)
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, spawn, initializer=_set_up, initargs=(work, spawn.Barrier(count)))


_clip: Clip
_all_ready: Any  # a barrier, of threads or of processes


def _set_up(work: Path, all_ready: Any) -> None:
    global _clip, _all_ready
    _clip, _all_ready = read_clip(work), all_ready


def read_clip(work: Path) -> Clip:
    with av.open(str(work / "face.mp4")) as video:
        frames = [frame.to_ndarray(format="nv12") for frame in video.decode(video=0)]
    sound = np.concatenate([chunk.sound for chunk in AudioFile(work / "voice.wav")], axis=1)
    return Clip(frames, np.split(sound, range(SOUND_RATE // FPS, sound.shape[1], SOUND_RATE // FPS), axis=1))


def encode(frames: int, threads: int, sound: bool) -> Took:
    """Encode `frames` of the clip, when all encoders are ready."""
    height, width = _clip.frames[0].shape
    picture = Picture(width, height * 2 // 3, Fraction(FPS))
    options = VideoOptions("x264", threads=threads)
    with Path(os.devnull).open("wb") as nowhere, Muxer(nowhere, "mp4", picture, 1, options) as muxer:
        _all_ready.wait()
        began, cpu = time.monotonic(), time.process_time()
        for index in range(frames):
            if sound:
                muxer.sound(_clip.sounds[index % len(_clip.sounds)])
            muxer.frame(index, _clip.frames[index % len(_clip.frames)])
        ended, cpu = time.monotonic(), time.process_time() - cpu
        _all_ready.wait()  # the others are still measuring
    return Took(began, ended, cpu)


if __name__ == "__main__":
    main()
