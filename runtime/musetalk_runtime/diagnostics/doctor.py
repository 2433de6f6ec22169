"""The findings of ``doctor``: what this machine has, and whether a bundle runs on it."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_runtime.backends.ort.provider import import_onnxruntime
from musetalk_runtime.backends.trt.gpu_support import unsupported
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.certification.certify import ensure_certified
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.core.system_memory import system_memory
from musetalk_runtime.core.version import __version__
from musetalk_runtime.diagnostics.tested_versions import untested
from musetalk_runtime.frame_rate import generation_rate
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.video import Picture, VideoOptions

PACKAGES = (
    "numpy",
    "av",
    "opencv-python-headless",
    "fastapi",
    "uvicorn",
    "uvloop",
    "websockets",
    "onnxruntime",
    "onnxruntime-gpu",
    "cuda-core",
    "tensorrt",
    "tensorrt-lean",
    "tensorrt-rtx-cu13-bindings",
    "PyNvVideoCodec",
)
PICTURE = Picture(640, 360, Fraction(25))
FRAMES = 10

OK, NOTE, WARNING, FAILURE = "ok", "note", "warning", "failure"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its `state` is ok, note (worth knowing, or optional and absent), warning or failure.

    `text` is for people; what a program may want of it is in `facts`, as values of JSON.
    """

    name: str
    state: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def examine(bundle: Path | None, progress: Callable[[str], None]) -> list[Finding]:
    """Look at everything; only a bundle that cannot run, or no working encoder, is a failure.

    A bundle that is certified where it runs is certified if it must be, which `progress` tells of.
    """
    findings = [_software(), _memory(), _providers(), *_gpu(), *_encoders()]
    return [*findings, *(_bundle(bundle, progress) if bundle else [])]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """``{"healthy": bool, "findings": [{"name", "state", "text", "facts": {...}}]}``"""
    healthy = all(finding.state != FAILURE for finding in findings)
    return {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}


def _software() -> Finding:
    packages = {name: found for name in PACKAGES if (found := _version(name))}
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    words = [f"musetalk-edge {__version__}", f"Python {python} on {system}", *map(" ".join, packages.items())]
    facts = {"musetalk-edge": __version__, "python": python, "os": system, "packages": packages}
    if outside := untested({"python": python, **packages}):
        return Finding("software", WARNING, f"{', '.join(words)}; never tested with {', '.join(outside)}", facts)
    return Finding("software", OK, ", ".join(words), facts)


def _memory() -> Finding:
    free, total = (size // 1_000_000 for size in system_memory())
    cores = available_cores()
    facts = {"available_mb": free, "total_mb": total, "cores": cores}
    return Finding("memory", OK, f"{free / 1000:.1f} of {total / 1000:.1f} GB available, {cores:g} cores", facts)


def _providers() -> Finding:
    """What ONNX Runtime was built to run on; whether CUDA's libraries are there, a bundle built for it will tell."""
    try:
        names = import_onnxruntime().get_available_providers()
    except MuseTalkEdgeError as error:
        return Finding("providers", NOTE, str(error))
    return Finding("providers", OK, f"ONNX Runtime's: {', '.join(names)}", {"onnxruntime": names})


def _gpu() -> list[Finding]:
    try:
        from musetalk_runtime.backends.trt.gpu_facts import gpu_facts

        facts = gpu_facts()
    except (MuseTalkEdgeError, ImportError) as error:
        return [Finding("gpu", NOTE, str(error))]
    memory = f"{facts.memory_mb / 1000:.0f} GB{' of memory shared with the system' if facts.integrated else ''}"
    text = f"{facts.name}, compute capability {facts.compute_capability}, {memory}"
    names = ("name", "compute_capability", "memory_mb", "integrated")
    return [
        Finding("gpu", OK, text, {name: getattr(facts, name) for name in names}),
        driver_finding(facts.name, facts.driver),
        tensorrt_finding(facts.tensorrt, facts.compute_capability, facts.lean),
        rtx_finding(facts.tensorrt_rtx),
    ]


def driver_finding(gpu: str, driver: str) -> Finding:
    facts = {"version": driver}
    if "GB10" in gpu:
        reports = "on GB10, CUDA graph captures that hang were reported with drivers 580 and 590"
        way_on = "one that takes 30 s is given up, --no-cuda-graph tries none"
        return Finding("driver", NOTE, f"{driver}; {reports}: {way_on}", facts)
    return Finding("driver", OK, driver, facts)


def tensorrt_finding(tensorrt: str | None, compute_capability: str, lean: bool = False) -> Finding:
    if tensorrt is None:
        return Finding("tensorrt", NOTE, "not installed: pip install 'musetalk-edge[gpu]' (or [gpu-lean])")
    facts = {"version": tensorrt, "lean": lean}
    if reason := unsupported(tensorrt, compute_capability):
        return Finding("tensorrt", WARNING, f"{reason}; bundles for ONNX Runtime run without it", facts)
    release = tuple(int(part) for part in tensorrt.split(".")[:2])
    if compute_capability.startswith("12.") and (10, 14) <= release <= (11, 1):
        reason = "known to miscompile fused attention on this GPU (NVIDIA/TensorRT issues 4822, 4837)"
        text = f"{tensorrt}: {reason}: build-engines certifies every plan, so let it try"
        return Finding("tensorrt", WARNING, text, facts)
    only = ", the lean runtime: for bundles built --version-compatible" if lean else ""
    return Finding("tensorrt", OK, f"{tensorrt}{only}", facts)


def rtx_finding(version: str | None) -> Finding:
    if version is None:
        return Finding("tensorrt-rtx", NOTE, "TensorRT for RTX is not installed: pip install 'musetalk-edge[gpu-rtx]'")
    return Finding("tensorrt-rtx", OK, f"{version}: for bundles built --backend tensorrt-rtx", {"version": version})


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


def _encoders() -> list[Finding]:
    nvenc = _encoder("nvenc", NOTE)
    return [_encoder("x264", NOTE if nvenc.state == OK else FAILURE), nvenc]


def _bundle(path: Path, progress: Callable[[str], None]) -> list[Finding]:
    try:
        with Bundle.open(path) as bundle:
            ensure_certified(bundle, progress)
            bundle.engines.check()
            backend, precision = bundle.manifest["backend"], bundle.manifest.get("precision")
            rate = generation_rate(bundle)
    except MuseTalkEdgeError as error:
        return [Finding("bundle", FAILURE, str(error))]
    facts = {"path": str(path), "backend": backend, "precision": precision, "fps": round(float(rate), 2)}
    return [Finding("bundle", OK, f"{path}: {backend}, {precision}, {rate:.1f} frames a second", facts)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
