#!/usr/bin/env python3
"""Frames a second of several sessions that speak at once: batched together by one worker, and each by itself.

    PYTHONPATH=runtime python scripts/bench/sessions.py BUNDLE [--avatar AVATAR ...] [--sessions 1,2,4,8] [--lanes N]

Each session says the same drawn-out voice without a pause, as fast as it goes, to nowhere; the avatars are shown in
turn, by default two drawn faces of --size. ``frames`` stops at finished frames, ``stream`` also encodes and muxes
them, in this process, and ``processes`` does so in encoder processes, as a service does. Each takes as many threads
for libx264 as the service would give it. Of --repeat runs of each kind, which take turns, the median counts. The
figures go to stdout as JSON. The bundle may be for a CPU or a GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.medians import medians
from load.service import cpu_seconds

from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.diagnostics.bench import gpu_memory_mb
from musetalk_runtime.diagnostics.synthetic import write_face_video, write_voice
from musetalk_runtime.output.processes.encoder_pool import EncoderPool
from musetalk_runtime.output.processes.remote_muxer import open_muxer
from musetalk_runtime.output.video import VideoOptions
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.service.scheduling.engine_worker import EngineWorker
from musetalk_runtime.service.scheduling.session_encoders import encoder_threads
from musetalk_runtime.session_hooks import SessionHooks

FPS = 25
KINDS = ("frames", "stream", "processes")
WAYS = {"batched": True, "one_by_one": False}
NOT_MEASURED = [
    "pace: sessions run as fast as they go, so batches are fuller than those of sessions at the pace of playback",
    "live speech: the audio is a file, whose audio encoder runs once in 30 s instead of five times a second",
    "HTTP, viewers, and the service's own clocks",
    "memory off the GPU; gpu_memory_mb is all that is used on the GPU while the sessions are open, other programs' too",
]


class Punctual:
    """The timetable of a session that began when all did."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def due(self, index: int) -> float:
        return self._began + index / FPS

    def limit(self, _index: int) -> float:
        return 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--avatar", type=Path, action="append", help="of one frame size, to share a batch on a GPU")
    parser.add_argument("--size", default="512x512", help="of the drawn faces, 512x512 (the default) or more")
    parser.add_argument("--sessions", default="1,2,4,8", help="how many at once, in turn (default: 1,2,4,8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of speech a session (default: 4)")
    parser.add_argument("--lanes", type=int, help="renderers that take turns (default: the engines')")
    parser.add_argument("--kinds", default=",".join(KINDS), help="what to measure (default: all three)")
    parser.add_argument("--ways", default=",".join(WAYS), help="one_by_one takes long to open on a GPU (default: both)")
    parser.add_argument("--processes", type=int, help="encoder processes at most (default: one a core)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (default: 3)")
    args = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="musetalk-edge-")))
        bundle = stack.enter_context(Bundle.open(args.bundle))
        bundle.engines.parallel_renderers = args.lanes or bundle.engines.parallel_renderers
        paths = args.avatar or draw(bundle, work, *map(int, args.size.split("x")))
        avatars = [stack.enter_context(Avatar.open(path)) for path in paths]
        write_voice(work / "voice.wav", args.seconds)
        pool = stack.enter_context(EncoderPool(args.processes or int(available_cores())))
        bundle.engines.new_frame = pool.frames.new
        runs = Runs(bundle, avatars, work / "voice.wav", pool, args.ways.split(","))
        runs.once("stream", 1, True)  # to load everything
        sizes = [f"{avatar.width}x{avatar.height}" for avatar in avatars]
        about = {"backend": bundle.manifest["backend"], "batch_sizes": bundle.batch_sizes}
        about |= {"cores": available_cores(), "lanes": bundle.engines.parallel_renderers, "avatars": sizes}
        counts = [int(count) for count in args.sessions.split(",")]
        figures = {
            kind: {count: runs.compare(kind, count, args.repeat) for count in counts} for kind in args.kinds.split(",")
        }
    print(json.dumps({**about, "seconds": args.seconds, **figures, "not_measured": NOT_MEASURED}, indent=1))


class Runs:
    """Runs sessions of `bundle` that show `avatars` in turn and say `audio`."""

    def __init__(self, bundle: Bundle, avatars: list[Avatar], audio: Path, pool: EncoderPool, ways: list[str]) -> None:
        self._bundle, self._avatars, self._audio, self._pool, self._ways = bundle, avatars, audio, pool, ways

    def compare(self, kind: str, count: int, repeat: int) -> dict[str, Any]:
        """Figures of `count` sessions together, each way, and how many times as fast they are batched."""
        if kind == "processes":  # the first use of shared memory takes many times as long as the next ones
            self.once(kind, count, True)
        runs = [{way: self.once(kind, count, WAYS[way]) for way in self._ways} for _ in range(repeat)]
        found: dict[str, Any] = {way: medians([run[way] for run in runs]) for way in self._ways}
        if len(found) > 1:
            found["gain"] = round(found["batched"]["fps"] / found["one_by_one"]["fps"], 3)
        return found

    def once(self, kind: str, count: int, batched: bool) -> dict[str, float]:
        """Of all sessions: frames a second, faces a batch (0 without batches), CPU time of a frame in all processes,
        and in the encoder processes alone, GPU memory.
        """
        if kind == "processes":
            self._start_processes(count)
        batches: list[int] = []
        with EngineWorker(self._bundle, Timings(), batches.append) as worker, ExitStack() as stack:
            punctual = Punctual()

            def shared(avatar: Avatar, _: Timings) -> Any:
                return worker.renderer(avatar, punctual)

            muxer = partial(open_muxer, self._pool) if kind == "processes" else None
            renderer = shared if batched else None
            hooks = [SessionHooks(renderer=renderer, renderer_shared=batched, muxer=muxer) for _ in range(count)]
            video = VideoOptions(threads=encoder_threads(available_cores(), count))
            sessions = [
                stack.enter_context(
                    Session(self._bundle, self._avatars[n % len(self._avatars)], self._audio, FPS, hooks[n])
                )
                for n in range(count)
            ]
            begin, cpu, encoders = time.perf_counter(), time.process_time(), self._encoder_seconds()
            made = [session.frames() if kind == "frames" else session.stream(video=video) for session in sessions]
            with ThreadPoolExecutor(count) as threads:
                for _ in threads.map(drain, made):
                    pass  # what a session raises is raised here
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            encoders = self._encoder_seconds() - encoders
            frames = sum(session.frames_made for session in sessions)
            used = gpu_memory_mb(self._bundle)
        faces = sum(batches) / max(1, len(batches))
        figures = {"fps": frames / seconds, "faces_a_batch": faces}
        figures |= {"cpu_ms_a_frame": (cpu + encoders) / frames * 1e3, "encoders_ms_a_frame": encoders / frames * 1e3}
        return figures if used is None else {**figures, "gpu_memory_mb": used}

    def _start_processes(self, count: int) -> None:
        """As many as a service would have started while that many sessions came."""
        taken = [self._pool.wait() for _ in range(count)]
        while not self._pool.settled:
            time.sleep(0.01)
        for process in taken:
            self._pool.release(process)

    def _encoder_seconds(self) -> float:
        """CPU time of the encoder processes."""
        return sum(map(cpu_seconds, self._pool.pids))


def drain(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def draw(bundle: Bundle, work: Path, width: int, height: int) -> list[Path]:
    """Two avatars."""
    box = write_face_video(work / "face.mp4", 25, width, height)
    for name in ("one", "two"):
        prepare_avatar(work / "face.mp4", bundle, work / name, PrepareOptions(face_box=box))
    return [work / "one", work / "two"]


if __name__ == "__main__":
    main()
