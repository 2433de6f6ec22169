"""A bundle: the engines of one device, built by ``build-engines`` from a model set and certified there."""

from functools import cached_property
from pathlib import Path
from typing import Any

from musetalk_runtime.backends.interface import Engines
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InvalidFolder
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.storage.folder import MANIFEST, Manifest, read_folder, settled

BUNDLE_KIND, BUNDLE_SCHEMA = "bundle", 1
FACE_MODEL = "face_detector.onnx"
MAX_BATCH_SIZE = 64  # frames
BACKENDS = ("onnxruntime", "tensorrt")


class Bundle(Closable):
    """An open bundle. Engines are loaded when they are first used, and released by `close`.

    Attributes: ``path``, ``manifest`` (its JSON), ``spec`` (the model's sizes), ``batch_sizes`` (ascending),
    ``batch_ms`` (milliseconds the generator took for each batch size when the bundle was built), ``live_context``
    (seconds of speech the audio encoder hears at once when the audio is live).
    """

    def __init__(self, path: Path, manifest: Manifest, **gpu: Any) -> None:
        self.path = path
        self.manifest = manifest
        self._gpu = gpu
        where = str(path / MANIFEST)
        self.spec = ModelSpec.from_json(manifest.get("model"), where)
        self.batch_ms = _batch_ms(manifest, where)
        self.live_context = _live_context(manifest, self.spec, where)
        self.batch_sizes = sorted(self.batch_ms)

    @classmethod
    def open(cls, path: str | Path, cuda_graph: bool = True, stream: Any = None, download: bool = True) -> "Bundle":
        """Open the bundle in the folder `path`; raises InputNotFound or InvalidFolder.

        `cuda_graph` lets a GPU replay its work as CUDA graphs; some drivers cannot (see ``musetalk-edge doctor``).
        `stream` is the CUDA stream of an application that has one, on which frames are then composed: a handle (int)
        or an object with ``__cuda_stream__``, of the primary context. `download` brings frames to the host ahead of
        time; False is for who takes ``Session.gpu_frames``. A bundle for the CPU has no use for any of them.
        """
        path = settled(Path(path))
        manifest = read_folder(path, BUNDLE_KIND, BUNDLE_SCHEMA)
        if manifest.get("backend") not in BACKENDS:
            raise InvalidFolder(f"{path}: backend {manifest.get('backend')!r} is unknown to this version")
        return cls(path, manifest, cuda_graph=cuda_graph, stream=stream, download=download)

    def close(self) -> None:
        """Release the engines. Closing twice is fine; a closed bundle loads them again when used."""
        if "engines" in self.__dict__:
            self.engines.close()
            del self.engines

    @cached_property
    def engines(self) -> Engines:
        """What runs the models: ONNX Runtime, or TensorRT, which is looked for when the engines are first used."""
        if self.manifest["backend"] == "tensorrt":
            from musetalk_runtime.backends.trt.engines import TensorRtEngines
            from musetalk_runtime.backends.trt.renderer import GpuOptions

            return TensorRtEngines(self.path, self.manifest, GpuOptions(**self._gpu))
        from musetalk_runtime.backends.ort.engines import OnnxEngines

        return OnnxEngines(self.path, self.manifest)

    @property
    def face_model(self) -> Path | None:
        """The YuNet face detector packed with the bundle, if one was."""
        return self.path / FACE_MODEL if FACE_MODEL in self.manifest["files"] else None


def _batch_ms(manifest: dict[str, Any], where: str) -> dict[int, float]:
    try:
        measured = {int(size): float(ms) for size, ms in manifest["batch_ms"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InvalidFolder(f"{where}: 'batch_ms' must map batch sizes to milliseconds") from None
    if not measured or not all(1 <= size <= MAX_BATCH_SIZE and ms > 0 for size, ms in measured.items()):
        raise InvalidFolder(
            f"{where}: 'batch_ms' is {measured}, expected sizes from 1 to {MAX_BATCH_SIZE} and times above 0"
        )
    return measured


def _live_context(manifest: dict[str, Any], spec: ModelSpec, where: str) -> float:
    seconds = manifest.get("live_context_seconds")
    if not isinstance(seconds, (int, float)) or not 0.2 <= seconds <= spec.audio_seconds:
        raise InvalidFolder(f"{where}: live_context_seconds is {seconds!r}, expected 0.2 to {spec.audio_seconds}")
    return float(seconds)
