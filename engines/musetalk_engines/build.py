"""The build of an ONNX Runtime bundle from a model set."""

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musetalk_engines.bundle import BuildReport, Progress, new_bundle, open_models
from musetalk_engines.calibration import Calibration
from musetalk_engines.measure import generator_ms, live_context
from musetalk_engines.modelset import ModelSet
from musetalk_engines.ort import (
    ENGINES,
    certify,
    check_precision,
    choose_provider,
    quantise_generator,
    write_engine,
)
from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.backends.ort.provider import CPU, import_onnxruntime
from musetalk_runtime.core.accuracy import Difference, require
from musetalk_runtime.core.errors import MachineError


def build_bundle(
    modelset: Path,
    output: Path,
    batch_sizes: Sequence[int],
    face_model: Path | None,
    progress: Progress,
    calibration: Calibration | None = None,
) -> BuildReport:
    """Build, certify and measure the engines of `modelset` for this machine into the folder `output`.

    They are for the GPU where ONNX Runtime's CUDA provider works, else for the CPU. `face_model`, a YuNet detector,
    is packed with them. With `calibration` the generator's convolutions are INT8, for the CPU; its faces may differ by
    40 dB then. Raises InputNotFound, InvalidFolder or InvalidArgument for what was given, and AccuracyError if an
    engine differs from the golden tensors, or by more than that; then nothing is written.
    """
    models = open_models(modelset, output, face_model)
    check_precision(models)
    if calibration:
        calibration.check(models.spec)
    provider = CPU if calibration else choose_provider(models, progress)
    with new_bundle(models, output, face_model, "onnxruntime") as (folder, manifest):
        engines, differences = _build_engines(models, folder, provider, progress)
        require(differences, "the model set")
        if calibration:
            progress("quantising generator")
            row = quantise_generator(models, folder, calibration)
            require([row], "the one in FP32")
            engines["generator"]["certified"].append(asdict(row))
            differences.append(row)
            manifest["precision"] = "int8"
        progress("measuring")
        batch_ms = generator_ms(models, folder, provider, batch_sizes)
        context, context_ms = live_context(models, folder, provider)
        manifest.update(
            engines=engines,
            batch_ms=batch_ms,
            live_context_seconds=context,
            audio_encoder_ms=context_ms,
            built_on=_describe(provider),
        )
    return BuildReport(differences, batch_ms, context)


def _build_engines(
    models: ModelSet, folder: Path, provider: str, progress: Progress
) -> tuple[dict[str, Any], list[Difference]]:
    engines: dict[str, Any] = {}
    differences: list[Difference] = []
    for name in ENGINES:
        progress(f"optimising {name}")
        start = time.perf_counter()
        write_engine(models, name, folder, provider)
        seconds = time.perf_counter() - start
        progress(f"certifying {name}")
        rows = certify(models, name, folder, provider)
        engines[name] = {"build_seconds": round(seconds, 2), "certified": [asdict(row) for row in rows]}
        differences += rows
    return engines, differences


def _describe(provider: str) -> dict[str, Any]:
    """What the engines run on here; the GPU's name only where cuda-core, which reads it, is installed."""
    machine = {"provider": provider, "processor": _processor(), "onnxruntime": import_onnxruntime().__version__}
    if provider != CPU:
        with suppress(MachineError):
            machine["gpu"] = str(open_device().name)
    return machine


def _processor() -> str:
    """The processor's name, for people."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
