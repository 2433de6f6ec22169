"""A bundle: engines, built by ``build-engines`` from a model set, and certified on the device that runs them."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musetalk_runtime.backends.interface import Engines
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder, MachineError
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.storage.folder import MANIFEST, Manifest, read_folder, settled

if TYPE_CHECKING:
    from musetalk_runtime.backends.trt.certificate import Certificate
    from musetalk_runtime.backends.trt.plan_files import PlanFiles

BUNDLE_KIND, BUNDLE_SCHEMA = "bundle", 1
FACE_MODEL = "face_detector.onnx"
MAX_BATCH_SIZE = 64  # frames
TENSORRT_RTX = "tensorrt-rtx"
BACKENDS = ("onnxruntime", "tensorrt", TENSORRT_RTX)


class Bundle(Closable):
    """An open bundle. Engines are loaded when they are first used, and released by `close`; a closed bundle has none.

    Attributes: ``path``, ``manifest`` (its JSON), ``spec`` (the model's sizes), ``batch_sizes`` (ascending),
    ``batch_ms`` (milliseconds the generator took for each batch size when the bundle was certified), ``live_context``
    (seconds of speech the audio encoder hears at once when the audio is live). The last two raise MachineError for a
    bundle that is to be certified where it runs, and was not yet.
    """

    def __init__(self, path: Path, manifest: Manifest, **gpu: Any) -> None:
        self.path = path
        self.manifest = manifest
        self.closed = False
        self._gpu = gpu
        self.spec = ModelSpec.from_json(manifest.get("model"), str(path / MANIFEST))
        self._certificate: Certificate | None = None
        self.find_certificate()

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
        """Release the engines. Closing twice is fine."""
        self._release_engines()
        self.closed = True

    def find_certificate(self) -> None:
        """Look for the certificate again, after ``certify_bundle``; other bundles bring theirs in their manifest."""
        self._measured: Manifest | None = self.manifest
        if self.manifest["backend"] == TENSORRT_RTX:
            from musetalk_runtime.backends.trt.certificate import find_certificate

            self._release_engines()
            for name in ("batch_ms", "live_context"):
                self.__dict__.pop(name, None)
            self._certificate = find_certificate(self.path)
            self._measured = self._certificate.manifest if self._certificate else None
        where = str(self.path / MANIFEST)
        if self._measured:
            self.batch_sizes = sorted(_batch_ms(self._measured, where))
            _live_context(self._measured, self.spec, where)
        else:
            self.batch_sizes = _built_sizes(self.manifest, where)

    @cached_property
    def batch_ms(self) -> dict[int, float]:
        """Milliseconds by batch size; raises MachineError where it was not certified yet."""
        return _batch_ms(self._require_measured(), str(self.path / MANIFEST))

    @cached_property
    def live_context(self) -> float:
        """Seconds of live speech that are heard at once; raises MachineError where it was not certified yet."""
        return _live_context(self._require_measured(), self.spec, str(self.path / MANIFEST))

    @cached_property
    def engines(self) -> Engines:
        """What runs the models: ONNX Runtime, or a TensorRT, which is looked for when the engines are first used.

        Raises InvalidArgument for a closed bundle.
        """
        if self.closed:
            raise InvalidArgument(f"{self.path}: the bundle is closed")
        if self.manifest["backend"] == "onnxruntime":
            from musetalk_runtime.backends.ort.engines import OnnxEngines

            return OnnxEngines(self.path, self.manifest)
        from musetalk_runtime.backends.trt.certified_here import CertifiedHere
        from musetalk_runtime.backends.trt.engines import TensorRtEngines
        from musetalk_runtime.backends.trt.plan_files import BuiltHere
        from musetalk_runtime.backends.trt.renderer import GpuOptions

        if self.manifest["backend"] == TENSORRT_RTX:
            files: PlanFiles = CertifiedHere(self.path, self.manifest, self._certificate)
        else:
            files = BuiltHere(self.path, self.manifest)
        return TensorRtEngines(files, GpuOptions(**self._gpu))

    def _release_engines(self) -> None:
        if "engines" in self.__dict__:
            self.engines.close()
            del self.engines

    def _require_measured(self) -> Manifest:
        """Where the measured figures are: in the manifest, or in the certificate."""
        if self._measured is None:
            raise MachineError(f"{self.path}: not certified on this machine: run 'musetalk-edge certify {self.path}'")
        return self._measured

    @property
    def face_model(self) -> Path | None:
        """The YuNet face detector packed with the bundle, if one was."""
        return self.path / FACE_MODEL if FACE_MODEL in self.manifest["files"] else None


def _built_sizes(manifest: dict[str, Any], where: str) -> list[int]:
    """The batch sizes of a bundle that was not certified yet."""
    sizes = manifest.get("batch_sizes")
    valid = isinstance(sizes, list) and all(isinstance(size, int) and 1 <= size <= MAX_BATCH_SIZE for size in sizes)
    if not sizes or not valid:
        raise InvalidFolder(f"{where}: 'batch_sizes' is {sizes!r}, expected sizes from 1 to {MAX_BATCH_SIZE}")
    return sorted(sizes)


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
