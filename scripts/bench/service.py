#!/usr/bin/env python3
"""A load test of the service: sessions, viewers and speech for minutes, or as many sessions as it lets in.

    PYTHONPATH=runtime python scripts/bench/service.py BUNDLE AVATAR [--sessions 8] [--fps 10] [--viewers 3]

Starts `musetalk-edge serve` and opens sessions, each with viewers that read all they get, and says the same 5 s of
voice to them again and again, with pauses as long. With --sessions 0 it opens sessions until one is refused, all of
which speak without a pause. Every viewer's stream is checked: fragments must follow each other without a gap, and a
keyframe come every second. At the end each session is interrupted while it speaks. Tells on stderr how far it is.
Writes JSON: how the slowest session keeps up, gaps, missed keyframes, waits of playback, milliseconds of /healthz, of
the first fragment (from the request for the session to a viewer) and of an interruption (to the first frame with a
closed mouth at a viewer), and the memory, descriptors and threads of the service and its encoder processes over time.

Not measured: decoding, a browser's playback (the tests do), a network, and what these clients take of the machine.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, children, serving
from load.viewer import Viewer

from musetalk_runtime.diagnostics.synthetic import write_voice

VOICE_SECONDS = 5.0
INTERRUPTION_TIMEOUT_S = 10.0  # seconds after which an interruption is given up
SAMPLE_INTERVAL_S = 5.0  # seconds between samples of the process
HEALTH_INTERVAL_S = 0.1  # seconds between requests for /healthz
NOT_MEASURED = ["decoding", "playback in a browser", "a network", "what the clients take of the machine"]


class Health(threading.Thread):
    """Asks /healthz ten times a second, and looks at the process now and then."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self.milliseconds: list[float] = []
        self.process: list[dict[str, float]] = []
        self._service = service
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(HEALTH_INTERVAL_S):
            asked = time.perf_counter()
            self._service.ask("GET", "/healthz")
            self.milliseconds.append((time.perf_counter() - asked) * 1e3)
            if time.monotonic() - begun >= len(self.process) * SAMPLE_INTERVAL_S:
                self.process.append({"seconds": round(time.monotonic() - begun, 1), **look(self._service.pid)})

    def stop(self) -> None:
        self._ended.set()
        self.join()


def look(pid: int) -> dict[str, float]:
    """The process and those that it started, together; memory that they share counts once."""
    pids = [pid, *children(pid)]
    found = {"memory_mb": 0.0, "descriptors": 0.0, "threads": 0.0, "processes": len(pids)}
    for number in pids:
        with suppress(OSError):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
            shared = 0 if number == pid else int(status["RssShmem"].split()[0])
            found["memory_mb"] += round((int(status["VmRSS"].split()[0]) - shared) / 1e3, 1)
            found["descriptors"] += len(list(Path(f"/proc/{number}/fd").iterdir()))
            found["threads"] += int(status["Threads"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--sessions", type=int, default=8, help="0: as many as are let in (default: 8)")
    parser.add_argument("--fps", type=Fraction, default=Fraction(10), help="of each session (default: 10)")
    parser.add_argument("--viewers", type=int, default=3, help="of each session (default: 3)")
    parser.add_argument("--seconds", type=float, default=300.0, help="default: 300")
    args = parser.parse_args()
    options = ["-b", str(args.bundle), "-a", f"one={args.avatar}"]
    options += ["--sessions", str(args.sessions)] if args.sessions else []
    with tempfile.TemporaryDirectory() as work, serving(*options) as service:
        write_voice(Path(work) / "voice.wav", VOICE_SECONDS)
        print(json.dumps(measure(service, args, (Path(work) / "voice.wav").read_bytes()), indent=1))


def measure(service: Service, args: argparse.Namespace, voice: bytes) -> dict[str, Any]:
    asked: list[float] = []
    viewers: list[Viewer] = []
    paths, refused = open_sessions(service, args, asked, viewers)
    tell(f"{len(paths)} sessions, {len(viewers)} viewers")
    health = Health(service)
    first = [generated(service, path) for path in paths]
    begun = time.monotonic()
    pause = VOICE_SECONDS if args.sessions else 0.0
    end = begun + args.seconds
    while time.monotonic() < end:
        for path in paths:
            if time.monotonic() > end:  # it answers slowly
                break
            if service.ask("GET", path)[1]["queued"] < 1.0:
                service.send(f"{path}/audio", voice, "audio/wav")
        time.sleep(max(0.0, min(end - time.monotonic(), VOICE_SECONDS + pause if pause else 1.0)))
    spent = time.monotonic() - begun
    last = [generated(service, path) for path in paths]
    rates = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in zip(first, last, strict=True)]
    metrics = service.ask("GET", "/metrics")[1]
    health.stop()
    tell(f"{spent:.0f} s, {min(rates):.2f} of real time; interrupting")
    interruptions = [
        interrupt(service, path, viewers[n * args.viewers], voice, args.fps) for n, path in enumerate(paths)
    ]
    firsts = [(viewer.first_at - asked[n // args.viewers]) * 1e3 for n, viewer in enumerate(viewers) if viewer.first_at]
    for path in paths:
        service.ask("DELETE", path)
    for viewer in viewers:
        viewer.join(30)
    return {
        "sessions": len(paths),
        "refused": refused,
        "viewers": len(viewers),
        "seconds": round(spent, 1),
        "real_time_factor_of_the_slowest": round(min(rates), 4),
        "real_time_factor_at_the_median": round(float(np.median(rates)), 4),
        "seconds_seen_by_the_least_viewer": round(min(viewer.seconds for viewer in viewers), 1),
        "gaps": sum(viewer.gaps for viewer in viewers),
        "keyframes_missed": sum(viewer.keyframes_missed for viewer in viewers),
        "waits_of_playback": counter(metrics, "late_total"),
        "errors": counter(metrics, "errors_total"),
        "healthz_ms": percentiles(health.milliseconds),
        "first_fragment_ms": percentiles(firsts),
        "interruption_ms": percentiles(interruptions),
        "process": health.process,
        "cores": os.cpu_count(),
        "not_measured": NOT_MEASURED,
    }


def generated(service: Service, path: str) -> tuple[float, float]:
    """When the service was asked, and the seconds of stream that the session had generated: answers may take long."""
    asked = time.monotonic()
    return asked, service.ask("GET", path)[1]["generated"]


def tell(text: str) -> None:
    print(f"service: {text}", file=sys.stderr, flush=True)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    return {
        name: round(float(np.percentile(milliseconds, share)), 2)
        for name, share in (("p50", 50), ("p99", 99), ("most", 100))
    }


def interrupt(service: Service, path: str, viewer: Viewer, voice: bytes, fps: Fraction) -> float:
    """Milliseconds from the request, while the session speaks, to the first frame with a closed mouth at `viewer`."""
    service.send(f"{path}/audio", voice, "audio/wav")
    time.sleep(0.5)
    begun = time.monotonic()
    closed = service.ask("POST", f"{path}/interrupt")[1]["at"]
    while newest_frame(viewer, fps) < closed and time.monotonic() - begun < INTERRUPTION_TIMEOUT_S:
        time.sleep(0.005)
    return (time.monotonic() - begun) * 1e3


def newest_frame(viewer: Viewer, fps: Fraction) -> float:
    """Where the newest frame that has come begins, in seconds of the stream."""
    newest = viewer.newest
    return newest.start + float((newest.samples - 1) / fps) if newest else 0.0


def open_sessions(
    service: Service, args: argparse.Namespace, asked: list[float], viewers: list[Viewer]
) -> tuple[list[str], dict[str, Any] | None]:
    """The paths of the sessions, when each was asked for, its viewers, and how the one too many was refused."""
    paths: list[str] = []
    while not args.sessions or len(paths) < args.sessions:
        wanted = {"avatar": "one", "fps": str(args.fps)}
        begun = time.monotonic()
        with service.open("POST", "/v1/sessions", wanted) as answer:
            content = json.loads(answer.read())
            if answer.status != 201:
                if args.sessions or not paths:
                    raise SystemExit(f"service: after {len(paths)} sessions: {content['error']['message']}")
                return paths, {
                    "status": answer.status,
                    "retry_after": answer.headers.get("Retry-After"),
                    **content["error"],
                }
        paths.append(f"/v1/sessions/{content['id']}")
        asked.append(begun)
        viewers += [Viewer(service.open("GET", f"{paths[-1]}/stream.mp4")) for _ in range(args.viewers)]
    return paths, None


def counter(metrics: str, name: str) -> float:
    """The value of the metric whose name ends so."""
    lines = (line.split() for line in metrics.splitlines() if not line.startswith("#"))
    return sum(float(value) for key, value in lines if key.endswith(name))


if __name__ == "__main__":
    main()
