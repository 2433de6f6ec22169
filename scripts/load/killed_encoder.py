#!/usr/bin/env python3
"""Encoder processes that are killed while sessions run: whether anybody notices.

    PYTHONPATH=runtime python scripts/load/killed_encoder.py [--kills 100] [--sessions 3]

Starts `musetalk-edge serve` with the demo, sessions that speak, and a viewer of each, which checks that each frame
follows the one before. Then it kills one of the encoder processes with SIGKILL, again and again, at random moments.
Prints JSON: gaps, keyframes that were missed, sessions lost, how long a viewer had no new fragment at most, before and
meanwhile, and the memory and descriptors of the service at the beginning and the end.

The service uses encoder processes also where it would not, on fewer than four cores. Not measured: decoding.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, children, serving
from load.viewer import Viewer

from musetalk_runtime.diagnostics.synthetic import write_voice

NOT_MEASURED = ["decoding", "playback in a browser", "a network"]
ALWAYS = "from musetalk_runtime.service.scheduling import session_encoders as s; s.MIN_CORES_FOR_PROCESSES = 0; "
WARM_KILLS = 5  # before memory and descriptors are looked at for the first time
VOICE_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--fps", default="10")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between kills, on average (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with serving("--sessions", str(args.sessions), first=ALWAYS) as service:
        print(json.dumps(measure(service, args), indent=1))


def measure(service: Service, args: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(args.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as work:
        write_voice(Path(work) / "voice.wav", VOICE_S)
        voice = (Path(work) / "voice.wav").read_bytes()
    paths = [begin(service, args.fps) for _ in range(args.sessions)]
    viewers = [Viewer(service.open("GET", f"{path}/stream.mp4")) for path in paths]
    watch(service, paths, 5.0, voice)
    before = max(viewer.longest_wait for viewer in viewers)
    looked: dict[str, float] = {}
    killed = 0
    for number in range(args.kills):
        if number == WARM_KILLS:
            looked = look(service)
        if pids := children(service.pid):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed += 1
        watch(service, paths, 2 * args.pause * chance.random(), voice)
    watch(service, paths, 5.0, voice)
    running = [service.ask("GET", path)[1]["state"] in ("idle", "speaking") for path in paths]
    ended = look(service)
    for path in paths:
        service.ask("DELETE", path)
    for viewer in viewers:
        viewer.join(30)
    return {
        "kills": killed,
        "sessions": len(paths),
        "sessions_lost": running.count(False),
        "gaps": sum(viewer.gaps for viewer in viewers),
        "keyframes_missed": sum(viewer.keyframes_missed for viewer in viewers),
        "longest_wait_s": {
            "before": round(before, 3),
            "meanwhile": round(max(viewer.longest_wait for viewer in viewers), 3),
        },
        "seconds_seen": round(min(viewer.seconds for viewer in viewers), 1),
        "after_5_kills": looked,
        "after_all": ended,
        "not_measured": NOT_MEASURED,
    }


def begin(service: Service, fps: str) -> str:
    path = f"/v1/sessions/{service.ask('POST', '/v1/sessions', {'avatar': 'demo', 'fps': fps})[1]['id']}"
    time.sleep(2.0)  # so that the next one finds a process
    return path


def watch(service: Service, paths: list[str], seconds: float, voice: bytes) -> None:
    """Let it run, and have what to say."""
    until = time.monotonic() + seconds
    for path in paths:
        if service.ask("GET", path)[1]["queued"] < VOICE_S / 2:
            service.send(f"{path}/audio", voice, "audio/wav")
    time.sleep(max(0.0, until - time.monotonic()))


def look(service: Service) -> dict[str, float]:
    return {"memory_mb": round(service.memory_mb, 1), "descriptors": service.descriptors}


if __name__ == "__main__":
    main()
