"""A model set, as ``export-student`` writes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from musetalk_runtime.certification.golden import GOLDEN, read_golden
from musetalk_runtime.core.errors import InvalidFolder
from musetalk_runtime.core.model import GRAPHS, MODELSET_KIND, MODELSET_SCHEMA, ModelSpec
from musetalk_runtime.storage.folder import MANIFEST, Manifest, read_folder


class ModelSet:
    """The ONNX graphs of one model, its sizes, and the tensors that its engines must reproduce.

    Attributes: ``path``, ``manifest``, ``spec``, ``precision`` (``fp32`` or ``fp16``).
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.spec = ModelSpec.from_json(manifest.get("model"), str(path / MANIFEST))
        self.precision = manifest.get("precision")
        missing = {GOLDEN, *(f"{graph}.onnx" for graph in GRAPHS)} - manifest["files"].keys()
        if missing:
            raise InvalidFolder(f"{path / MANIFEST}: it does not list {', '.join(sorted(missing))}")

    @classmethod
    def open(cls, path: Path) -> "ModelSet":
        """Open the model set in the folder `path`; raises InputNotFound or InvalidFolder."""
        return cls(path, read_folder(path, MODELSET_KIND, MODELSET_SCHEMA))

    def graph(self, name: str) -> Path:
        """The ONNX file of one of ``GRAPHS``."""
        return self.path / f"{name}.onnx"

    def golden(self) -> Mapping[str, npt.NDArray[Any]]:
        """The golden tensors, FP32, by ``<graph>.<tensor>``; read when they are looked up."""
        return read_golden(self.path)
