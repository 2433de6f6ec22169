"""Model set to bundle."""

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from musetalk_engines.cpu import ENGINES, certify, write_engine
from musetalk_engines.measure import generator_ms, live_context
from musetalk_engines.modelset import ModelSet
from musetalk_runtime.accuracy import Difference, require
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA, FACE_MODEL
from musetalk_runtime.errors import InputNotFound
from musetalk_runtime.folder import check_destination, new_folder


@dataclass(frozen=True)
class BuildReport:
    """What the engines differ by, and their speed: ``batch_ms`` is milliseconds by batch size."""

    differences: list[Difference]
    batch_ms: dict[int, float]
    live_context: float


def build_bundle(
    modelset: Path, output: Path, batch_sizes: Sequence[int], face_model: Path | None, progress: Callable[[str], None]
) -> BuildReport:
    """Build, certify and measure the engines of `modelset` for this machine's CPU into the folder `output`.

    `face_model`, a YuNet detector, is packed with them. Raises InputNotFound, InvalidFolder or InvalidArgument for
    what was given, and AccuracyError if an engine differs from the golden tensors; then nothing is written.
    """
    check_destination(output, BUNDLE_KIND)
    models = ModelSet.open(modelset)
    if face_model and not face_model.is_file():
        raise InputNotFound(f"{face_model}: no such face detector")
    with new_folder(output, BUNDLE_KIND, BUNDLE_SCHEMA) as (folder, manifest):
        engines, differences = _build_engines(models, folder, progress)
        require(differences, "the model set")
        progress("measuring")
        batch_ms = generator_ms(models, folder, batch_sizes)
        context, context_ms = live_context(models, folder)
        if face_model:
            shutil.copyfile(face_model, folder / FACE_MODEL)
        manifest.update(
            backend="onnxruntime",
            precision=models.precision,
            model=models.spec.to_json(),
            engines=engines,
            batch_ms=batch_ms,
            live_context_seconds=context,
            audio_encoder_ms=context_ms,
            built_on={"processor": _processor(), "onnxruntime": onnxruntime.__version__},
        )
    return BuildReport(differences, batch_ms, context)


def _build_engines(
    models: ModelSet, folder: Path, progress: Callable[[str], None]
) -> tuple[dict[str, Any], list[Difference]]:
    engines: dict[str, Any] = {}
    differences: list[Difference] = []
    for name in ENGINES:
        progress(f"optimising {name}")
        start = time.perf_counter()
        write_engine(models, name, folder)
        seconds = time.perf_counter() - start
        progress(f"certifying {name}")
        rows = certify(models, name, folder)
        engines[name] = {"build_seconds": round(seconds, 2), "certified": [asdict(row) for row in rows]}
        differences += rows
    return engines, differences


def _processor() -> str:
    """The processor's name, for people."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
