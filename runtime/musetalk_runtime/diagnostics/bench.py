"""The benchmark: speed and memory of the chain over a fixed synthetic input."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.detail import Detail
from musetalk_runtime.core.timings import memory_mb
from musetalk_runtime.diagnostics.cpu_share import measure_cpu_share
from musetalk_runtime.diagnostics.drawn_avatar import drawn_avatar
from musetalk_runtime.diagnostics.processor import processor
from musetalk_runtime.diagnostics.synthetic import SIDE, write_voice
from musetalk_runtime.session import Session

AVATAR_FRAMES = 25
MEMORY_SAMPLES = 20
PACED_SECONDS = 10.0
WARM_SESSIONS, WARM_SECONDS = 5, 5.0
NOT_MEASURED = [
    "opening the bundle and the avatar (peak_memory_mb holds the making of the drawn one)",
    "writing the stream anywhere: it is thrown away",
    "pauses, which cost less: the synthetic voice makes none, so a face is made for every frame",
    "gpu_memory_mb: whose it is, for it is all that is used on the GPU: other programs' memory counts too, and all of "
    "the machine's where the GPU shares it",
    "paced: the GPU and the disk; x264_share is libx264 with its conversion from NV12 over the same frames one by one, "
    "which differs from its share beside the chain where the two compete for cores and caches",
]


def bench(
    bundle: Bundle,
    avatar: Avatar | None,
    seconds: float,
    fps: str,
    size: tuple[int, int] = (SIDE, SIDE),
    detail: Detail = "auto",
) -> dict[str, Any]:
    """Stream `seconds` of synthetic speech, after one second to warm up, and report on that run.

    Without an `avatar` a drawn one of `size` (width, height) is made, and opened with `detail`. ``memory_mb`` maps
    seconds of the stream to the resident size then; ``gpu_memory_mb`` is what was used on the GPU after the run, None
    without one. Then come ``warm_sessions``, ended at their first fragment, and ``paced``, a run at the pace of real
    time: see `measure_cpu_share`.
    """
    with tempfile.TemporaryDirectory(prefix="musetalk-edge-") as folder:
        work = Path(folder)
        if avatar is None:
            avatar = drawn_avatar(bundle.path, work, AVATAR_FRAMES, size, detail)
        lengths = {"warm-up": 1.0, "voice": seconds, "short": WARM_SECONDS, "paced": min(seconds, PACED_SECONDS)}
        for name, length in lengths.items():
            write_voice(work / f"{name}.wav", length)
        _run(bundle, avatar, work / "warm-up.wav", fps, 1.0)
        report = _run(bundle, avatar, work / "voice.wav", fps, seconds)
        report["gpu_memory_mb"] = gpu_memory_mb(bundle)
        report["warm_sessions"] = _first_fragments(bundle, avatar, work / "short.wav", fps)
        report["paced"] = measure_cpu_share(bundle, avatar, work / "paced.wav", fps)
    size_of = {"width": avatar.width, "height": avatar.height}
    return {**processor(), **report, **size_of, "not_measured": NOT_MEASURED}


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


def _first_fragments(bundle: Bundle, avatar: Avatar, audio: Path, fps: str) -> dict[str, Any]:
    """Seconds to the first fragment of each of WARM_SESSIONS, and the parts of the median one."""
    reports = []
    for _ in range(WARM_SESSIONS):
        with Session(bundle, avatar, audio, fps) as session, closing(session.stream()) as stream:
            while session.first_fragment_seconds is None:
                next(stream)
            reports.append(session.report())
    median = sorted(reports, key=lambda report: float(report["first_fragment_seconds"]))[WARM_SESSIONS // 2]
    seconds = [report["first_fragment_seconds"] for report in reports]
    parts = {name: median[name] for name in ("first_ms", "first_at_ms")}
    return {"audio_seconds": WARM_SECONDS, "first_fragment_seconds": seconds, **parts}


def gpu_memory_mb(bundle: Bundle) -> float | None:
    """What is used on the bundle's GPU now, by whomever, in MB."""
    if bundle.manifest["backend"] != "tensorrt":
        return None
    from musetalk_runtime.backends.cuda.device import free_memory, open_device

    open_device()
    free, total = free_memory()
    return round((total - free) / 1e6, 1)
