"""A bundle: the engines of one device, built by ``build-engines`` from a model set and certified there."""

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.cpu.onnx_session import OnnxSession
from musetalk_runtime.errors import InvalidFolder
from musetalk_runtime.folder import MANIFEST, Manifest, read_folder
from musetalk_runtime.model import ModelSpec

BUNDLE_KIND, BUNDLE_SCHEMA = "bundle", 1
FACE_MODEL = "face_detector.onnx"


class Bundle:
    """An open bundle. Engines are loaded when they are first used, and released by `close`.

    Attributes: ``path``, ``manifest`` (its JSON), ``spec`` (the model's sizes), ``batch_sizes`` (ascending),
    ``batch_ms`` (milliseconds the generator took for each batch size when the bundle was built), ``live_context``
    (seconds of speech the audio encoder hears at once when the audio is live).
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        where = str(path / MANIFEST)
        self.spec = ModelSpec.from_json(manifest.get("model"), where)
        self.batch_ms = _batch_ms(manifest, where)
        self.live_context = _live_context(manifest, self.spec, where)
        self.batch_sizes = sorted(self.batch_ms)

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Open the bundle in the folder `path`; raises InputNotFound, InvalidFolder or MachineError."""
        path = Path(path)
        manifest = read_folder(path, BUNDLE_KIND, BUNDLE_SCHEMA)
        if manifest.get("backend") != "onnxruntime":
            raise InvalidFolder(f"{path}: backend {manifest.get('backend')!r} is unknown to this version")
        return cls(path, manifest)

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the engines. Closing twice is fine; a closed bundle loads them again when used."""
        for name in ("generator", "vae_encoder", "audio_encoder"):
            self.__dict__.pop(name, None)

    @cached_property
    def generator(self) -> OnnxSession:
        """UNet and VAE decoder in one graph: ``latents``, ``tokens`` -> ``faces`` uint8 ``[N, I, I, 3]`` RGB."""
        return OnnxSession(self.path / "generator.onnx")

    @cached_property
    def vae_encoder(self) -> OnnxSession:
        """``images`` float32 ``[N, 3, I, I]`` RGB in [0, 1] -> ``latents`` float32 ``[N, C, S, S]``."""
        return OnnxSession(self.path / "vae_encoder.onnx")

    @cached_property
    def audio_encoder(self) -> OnnxSession:
        """``mel`` float32 ``[1, mel_bins, T]`` -> ``states`` float32 ``[1, T / 2, audio_states, audio_width]``."""
        return OnnxSession(self.path / "audio_encoder.onnx")

    @property
    def face_model(self) -> Path | None:
        """The YuNet face detector packed with the bundle, if one was."""
        return self.path / FACE_MODEL if FACE_MODEL in self.manifest["files"] else None

    def encode_images(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """VAE latents ``[N, C, S, S]`` of RGB `images` ``[N, 3, I, I]`` in [0, 1], times the scaling factor."""
        latents: npt.NDArray[np.float32] = self.vae_encoder.run("latents", images=images)
        return latents

    def encode_audio(self, mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Hidden states ``[T / 2, audio_states, audio_width]`` of a log-mel spectrogram ``[mel_bins, T]``."""
        states: npt.NDArray[np.float32] = self.audio_encoder.run("states", mel=mel[None])[0]
        return states

    def generate(self, latents: npt.NDArray[np.float32], tokens: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """RGB faces ``[N, I, I, 3]`` from UNet latents ``[N, 2 * C, S, S]`` and audio tokens ``[N, tokens, width]``."""
        faces: npt.NDArray[np.uint8] = self.generator.run("faces", latents=latents, tokens=tokens)
        return faces


def _batch_ms(manifest: dict[str, Any], where: str) -> dict[int, float]:
    measured = manifest.get("batch_ms")
    if not isinstance(measured, dict) or not measured:
        raise InvalidFolder(f"{where}: 'batch_ms' must map batch sizes to milliseconds")
    try:
        return {int(size): float(ms) for size, ms in measured.items()}
    except (TypeError, ValueError):
        raise InvalidFolder(f"{where}: 'batch_ms' holds something that is no number") from None


def _live_context(manifest: dict[str, Any], spec: ModelSpec, where: str) -> float:
    seconds = manifest.get("live_context_seconds")
    if not isinstance(seconds, (int, float)) or not 0.2 <= seconds <= spec.audio_seconds:
        raise InvalidFolder(f"{where}: live_context_seconds is {seconds!r}, expected 0.2 to {spec.audio_seconds}")
    return float(seconds)
