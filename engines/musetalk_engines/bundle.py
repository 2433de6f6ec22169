"""The parts of a build that both backends share: its input, its output folder and its report."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from musetalk_engines.modelset import ModelSet
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA, FACE_MODEL
from musetalk_runtime.core.accuracy import Difference
from musetalk_runtime.core.errors import InputNotFound
from musetalk_runtime.storage.folder import Manifest, check_destination, new_folder

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BuildReport:
    """The differences of the engines, and their speed: ``batch_ms`` by batch size, ``live_context`` in seconds."""

    differences: list[Difference]
    batch_ms: dict[int, float]
    live_context: float


def open_models(modelset: Path, output: Path, face_model: Path | None) -> ModelSet:
    """The model set, once it is sure that the bundle can be written; raises as ``build_bundle`` says."""
    check_destination(output, BUNDLE_KIND)
    models = ModelSet.open(modelset)
    if face_model and not face_model.is_file():
        raise InputNotFound(f"{face_model}: no such face detector")
    return models


@contextmanager
def new_bundle(
    models: ModelSet, output: Path, face_model: Path | None, backend: str
) -> Iterator[tuple[Path, Manifest]]:
    """A folder to put engines into, and a manifest to add them to; `output` is replaced when all went well."""
    with new_folder(output, BUNDLE_KIND, BUNDLE_SCHEMA) as (folder, manifest):
        manifest.update(backend=backend, precision=models.precision, model=models.spec.to_json())
        if face_model:
            shutil.copyfile(face_model, folder / FACE_MODEL)
        yield folder, manifest
