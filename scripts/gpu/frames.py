#!/usr/bin/env python3
"""What it gains to compose frames into mapped memory of the host instead of copying them there, in one run.

    PYTHONPATH=runtime python scripts/gpu/frames.py BUNDLE [--size 1280x720] [--seconds 10] [--repeat 5]

A drawn face of --size says a voice without a pause. ``fps`` is of a session as fast as it goes, to finished frames on
the host; the milliseconds beside it are a frame's, by stage. ``batch_N_ms`` is from `render` to the frames on the host,
for one batch of N frames at a time. Both kinds take turns, --repeat times, and the median counts. ``ratio`` is mapped
to copied: above 1 is better for ``fps``, below 1 for milliseconds. ``identical`` says whether the frames of the first
second were the same, byte for byte. The figures go to stdout as JSON. Not measured: encoding.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.medians import medians

from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts
from musetalk_runtime.backends.trt.renderer import GpuOptions
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.diagnostics.drawn_avatar import drawn_avatar
from musetalk_runtime.diagnostics.synthetic import write_voice

FPS = 25
WARM_UP, BATCHES = 5, 50
Kind = Literal["copied", "mapped"]
KINDS: tuple[Kind, Kind] = ("copied", "mapped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="1280x720", help="of the drawn face (default: 1280x720)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech (default: 10)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each kind (default: 5)")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="musetalk-edge-") as folder, Bundle.open(args.bundle) as bundle:
        voice = Path(folder) / "voice.wav"
        write_voice(voice, args.seconds)
        with drawn_avatar(bundle.path, Path(folder), FPS, (width, height)) as avatar:
            first = [once(bundle, avatar, voice, kind)[1] for kind in KINDS]  # to warm up
            runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
            for _ in range(args.repeat):
                for kind in KINDS:
                    stream, _ = once(bundle, avatar, voice, kind)
                    runs[kind].append({**stream, **alone(bundle, avatar, kind)})
    facts = gpu_facts()
    about = {"gpu": facts.name, "driver": facts.driver, "tensorrt": facts.tensorrt, "integrated": facts.integrated}
    about |= {"frame": args.size, "seconds": args.seconds, "repeat": args.repeat}
    found = {kind: medians(runs[kind], 4) for kind in KINDS}
    copied, mapped = (found[kind] for kind in KINDS)
    ratio = {name: round(mapped[name] / copied[name], 3) for name in copied if name in mapped}
    print(json.dumps({**about, "identical": np.array_equal(first[0], first[1]), **found, "ratio": ratio}, indent=1))


def once(bundle: Bundle, avatar: Avatar, voice: Path, kind: Kind) -> tuple[dict[str, float], list[np.ndarray]]:
    """Figures of a session, and its first second of frames."""
    bundle.engines.options = GpuOptions(frames=kind)  # type: ignore[attr-defined]
    kept: list[np.ndarray] = []
    with Session(bundle, avatar, voice, FPS) as session:
        begin = time.perf_counter()
        for frame in session.frames():
            if len(kept) < FPS:
                kept.append(frame.nv12)
        seconds = time.perf_counter() - begin
        stages: dict[str, Any] = session.report()["stages"]
    names = ("wait", "compose", "gpu_download")
    times = {f"{name}_ms": stages[name]["p50_ms"] for name in names if name in stages}
    return {"fps": session.frames_made / seconds, **times}, kept


def alone(bundle: Bundle, avatar: Avatar, kind: Kind) -> dict[str, float]:
    """Median milliseconds from `render` to the frames on the host, of one batch of each size at a time."""
    bundle.engines.options = GpuOptions(frames=kind)  # type: ignore[attr-defined]
    tokens = np.zeros((bundle.spec.tokens, bundle.spec.audio_width), np.float32)
    renderer = bundle.engines.renderer(avatar, Timings())
    found = {}
    for size in bundle.batch_sizes:
        speech = [SpeechFrame(index, tokens, 1.0, np.zeros((1, 0), np.float32)) for index in range(size)]
        batch = [FrameRequest(avatar, frame.index % len(avatar), frame) for frame in speech]
        times = []
        for _ in range(WARM_UP + BATCHES):
            begin = time.perf_counter()
            renderer.render(batch).wait()
            times.append((time.perf_counter() - begin) * 1e3)
        found[f"batch_{size}_ms"] = statistics.median(times[WARM_UP:])
    renderer.close()
    return found


if __name__ == "__main__":
    main()
