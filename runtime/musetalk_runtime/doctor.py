"""What this machine has, and whether a bundle will run on it."""

import os
import platform
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_runtime import __version__
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.cpu.provider import import_onnxruntime
from musetalk_runtime.errors import MuseTalkEdgeError
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.rate import generation_rate

PACKAGES = (
    "numpy",
    "av",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "cuda-core",
    "tensorrt",
    "PyNvVideoCodec",
)
PICTURE = Picture(640, 360, Fraction(25))
FRAMES = 10

OK, NOTE, WARNING, FAILURE = "ok", "note", "warning", "failure"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its `state` is ok, note (something optional is absent), warning or failure."""

    name: str
    state: str
    text: str


def examine(bundle: Path | None) -> list[Finding]:
    """Look at everything; only a bundle that cannot run, or no working encoder, is a failure."""
    findings = [_software(), _memory(), _providers(), *_gpu(), _encoder("x264", FAILURE), _encoder("nvenc", NOTE)]
    return [*findings, *(_bundle(bundle) if bundle else [])]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """``{"healthy": bool, "findings": [{"name", "state", "text"}]}``"""
    healthy = all(finding.state != FAILURE for finding in findings)
    return {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}


def _software() -> Finding:
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("software", OK, ", ".join([f"musetalk-edge {__version__}", python, *versions]))


def _memory() -> Finding:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    free, total = (kilobytes[name] / 1e6 for name in ("MemAvailable", "MemTotal"))
    return Finding("memory", OK, f"{free:.1f} of {total:.1f} GB available, {len(os.sched_getaffinity(0))} cores")


def _providers() -> Finding:
    """What ONNX Runtime was built to run on; whether CUDA's libraries are there, a bundle built for it will tell."""
    try:
        names = import_onnxruntime().get_available_providers()
    except MuseTalkEdgeError as error:
        return Finding("providers", NOTE, str(error))
    return Finding("providers", OK, f"ONNX Runtime's: {', '.join(names)}")


def _gpu() -> list[Finding]:
    try:
        from musetalk_runtime.gpu.device import gpu_facts

        facts = gpu_facts()
    except (MuseTalkEdgeError, ImportError) as error:
        return [Finding("gpu", NOTE, str(error))]
    text = f"{facts.name}, compute capability {facts.compute_capability}, {facts.memory_mb / 1000:.0f} GB"
    return [
        Finding("gpu", OK, text),
        _driver(facts.name, facts.driver),
        _tensorrt(facts.tensorrt, facts.compute_capability, facts.lean),
    ]


def _driver(gpu: str, driver: str) -> Finding:
    if "GB10" in gpu and driver.startswith("590."):
        return Finding("driver", WARNING, f"{driver} is reported to hang in graph capture here: use --no-cuda-graph")
    return Finding("driver", OK, driver)


def _tensorrt(tensorrt: str | None, compute_capability: str, lean: bool = False) -> Finding:
    if tensorrt is None:
        return Finding("tensorrt", NOTE, "not installed: pip install 'musetalk-edge[gpu]' (or [gpu-lean])")
    release = tuple(int(part) for part in tensorrt.split(".")[:2])
    if compute_capability.startswith("12.") and (10, 14) <= release <= (11, 1):
        reason = "known to miscompile fused attention on this GPU (NVIDIA/TensorRT issues 4822, 4837)"
        return Finding("tensorrt", WARNING, f"{tensorrt}: {reason}: build-engines certifies every plan, so let it try")
    only = ", the lean runtime: for bundles built --version-compatible" if lean else ""
    return Finding("tensorrt", OK, f"{tensorrt}{only}")


def _encoder(name: str, when_absent: str) -> Finding:
    """Encode a few frames, as a stream would."""
    pieces = Pieces()
    frame = np.full((PICTURE.height * 3 // 2, PICTURE.width), 128, np.uint8)
    try:
        with Muxer(pieces, "mp4", PICTURE, 1, VideoOptions(name)) as muxer:
            for k in range(FRAMES):
                muxer.frame(k, frame)
    except MuseTalkEdgeError as error:
        return Finding(name, when_absent, str(error))
    return Finding(name, OK, f"{FRAMES} frames of {PICTURE.width}x{PICTURE.height} encoded, {len(pieces.take())} bytes")


def _bundle(path: Path) -> list[Finding]:
    try:
        with Bundle.open(path) as bundle:
            bundle.engines.check()
            rate = generation_rate(bundle)
            text = (
                f"{path}: {bundle.manifest['backend']}, {bundle.manifest.get('precision')}, {rate:.1f} frames a second"
            )
    except MuseTalkEdgeError as error:
        return [Finding("bundle", FAILURE, str(error))]
    return [Finding("bundle", OK, text)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
