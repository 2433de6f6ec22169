"""The metrics of the whole service, in Prometheus' text format.

Its client library would add a registry of its own to every process; the text format is a few lines.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping

BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)  # seconds
PREFIX = "musetalk_"

COUNTERS = {
    "frames_total": "Frames generated.",
    "sessions_total": "Sessions begun.",
    "refused_total": "Sessions refused because the machine is full.",
    "viewers_total": "Viewers that began to watch.",
    "skips_total": "Times a slow viewer was moved to the newest keyframe.",
    "dropped_viewers_total": "Viewers ended because they were slower than the stream.",
    "dropped_frames_total": "Frames under way whose mouth was closed by an interruption.",
    "batches_total": "Batches of faces generated.",
    "faces_total": "Faces generated, in all batches: by batches_total, the size of a batch.",
    "late_total": "Times playback had to wait for generation.",
    "errors_total": "Sessions that failed.",
}
GAUGES = {
    "sessions": "Sessions that run.",
    "viewers": "Viewers that watch.",
    "fps": "Frames a second, of all sessions together.",
    "real_time_factor": "Seconds of stream made a second, of the slowest session: well below 1 it does not keep up.",
    "lead_seconds": "How far generation is ahead of playback, of the session that is least so.",
    "queued_frames": "Frames that wait for the engines, of all sessions together.",
    "waiting_frames": "Frames handed to the engines that are not in a stream yet, of all sessions together.",
    "engines_failed": "Bundles whose engines have failed: nothing is generated with them any more.",
    "queued_seconds": "Speech that waits to be said, of all sessions together.",
    "tasks": "Tasks of the event loop: requests, connections and what looks after them.",
}


HISTOGRAMS = {
    "first_fragment_seconds": "From the opening of a session to its first fragment.",
    "turn_speech_seconds": "From the first sample of speech after a silence to the frame that shows it.",
    "turn_interruption_seconds": "From an interruption to the first frame with a closed mouth.",
}


class Metrics:
    """Counters, the time by stage, and histograms: of the first fragment, and of turns. Safe from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._stage_seconds: defaultdict[str, float] = defaultdict(float)
        self._stage_frames: Counter[str] = Counter()
        self._observed = {name: [0] * (len(BUCKETS_S) + 1) for name in HISTOGRAMS}
        self._sums = dict.fromkeys(HISTOGRAMS, 0.0)
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Count `count` more of one of COUNTERS."""
        with self._lock:
            self._counts[name] += count

    def count(self, name: str) -> int:
        """One of COUNTERS, as it stands."""
        with self._lock:
            return self._counts[name]

    def stage(self, name: str, ms: float, frames: int) -> None:
        """Note that a stage took so long for so many frames. See ``Timings``."""
        with self._lock:
            self._stage_seconds[name] += ms / 1e3
            self._stage_frames[name] += frames

    def batch(self, faces: int) -> None:
        """Note a batch of so many faces."""
        self.add("batches_total")
        self.add("faces_total", faces)

    def first_fragment(self, seconds: float) -> None:
        """Note how long after its opening a session had its first fragment."""
        self._observe("first_fragment_seconds", seconds)

    def turn(self, what: str, seconds: float) -> None:
        """Note the latency of a turn, ``speech`` or ``interruption``. See ``TurnTimer``."""
        self._observe(f"turn_{what}_seconds", seconds)

    def text(self, gauges: dict[str, float]) -> str:
        """In Prometheus' text format, with the values of GAUGES as they are now."""
        with self._lock:
            counts = dict(self._counts)
            histograms = [_histogram(name, self._observed[name], self._sums[name]) for name in HISTOGRAMS]
            seconds, frames = dict(self._stage_seconds), dict(self._stage_frames)
        blocks = [_metric(name, "gauge", tell, gauges.get(name, 0)) for name, tell in GAUGES.items()]
        blocks += [_metric(name, "counter", tell, counts.get(name, 0)) for name, tell in COUNTERS.items()]
        blocks += [_by_stage("stage_seconds_total", "Time of each stage, of all sessions together.", seconds)]
        blocks += [_by_stage("stage_frames_total", "Frames that each stage's time was for.", frames)]
        return "\n".join([*blocks, *histograms]) + "\n"

    def _observe(self, name: str, seconds: float) -> None:
        with self._lock:
            self._observed[name][sum(seconds > bound for bound in BUCKETS_S)] += 1
            self._sums[name] += seconds


def _metric(name: str, kind: str, tell: str, value: float) -> str:
    name = PREFIX + name
    return f"# HELP {name} {tell}\n# TYPE {name} {kind}\n{name} {value:.10g}"


def _by_stage(name: str, tell: str, values: Mapping[str, float]) -> str:
    name = PREFIX + name
    lines = [f'{name}{{stage="{stage}"}} {value:.10g}' for stage, value in sorted(values.items())]
    return "\n".join([f"# HELP {name} {tell}", f"# TYPE {name} counter", *lines])


def _histogram(name: str, counts: list[int], total: float) -> str:
    tell, name = HISTOGRAMS[name], PREFIX + name
    lines = [f"# HELP {name} {tell}", f"# TYPE {name} histogram"]
    for n, bound in enumerate([*map(str, BUCKETS_S), "+Inf"]):
        lines.append(f'{name}_bucket{{le="{bound}"}} {sum(counts[: n + 1])}')
    return "\n".join([*lines, f"{name}_sum {total:g}", f"{name}_count {sum(counts)}"])
