"""A bundle's engines on ONNX Runtime."""

from functools import cached_property
from pathlib import Path

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.interface import ALL, NewFrame, empty_frame
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.backends.ort.provider import CPU, CUDA
from musetalk_runtime.backends.ort.renderer import CpuRenderer
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidFolder, MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.storage.folder import MANIFEST, Manifest, listed_file


class OnnxEngines:
    """The ONNX graphs in a bundle's folder, each loaded when it is first used. See ``Engines``.

    They run on the provider that the bundle was built with; MachineError where this machine has it not.
    """

    parallel_renderers = 1  # a batch takes all cores

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.new_frame: NewFrame = empty_frame
        self._folder = folder
        self._manifest = manifest
        self._provider = _provider(manifest, folder / MANIFEST)

    def check(self) -> None:
        self._load("audio_encoder")

    def encode_images(self, images: Floats) -> Floats:
        latents: Floats = self._vae_encoder.run("latents", images=images)
        return latents

    def encode_audio(self, mel: Floats, rows: slice = ALL) -> Floats:
        states: Floats = self._audio_encoder.run("states", mel=mel[None])[0]
        return states[rows]

    def group(self, avatar: Avatar) -> None:
        """All: faces are generated in one batch, and composed one by one."""

    def renderer(self, avatar: Avatar, timings: Timings) -> CpuRenderer:  # noqa: ARG002
        return CpuRenderer(self._generator, timings, self.new_frame)

    def close(self) -> None:
        for name in ("_generator", "_vae_encoder", "_audio_encoder"):
            self.__dict__.pop(name, None)

    @cached_property
    def _generator(self) -> OnnxSession:
        return self._load("generator")

    @cached_property
    def _vae_encoder(self) -> OnnxSession:
        return self._load("vae_encoder")

    @cached_property
    def _audio_encoder(self) -> OnnxSession:
        return self._load("audio_encoder")

    def _load(self, name: str) -> OnnxSession:
        file = listed_file(self._folder, self._manifest, f"{name}.onnx")
        try:
            return OnnxSession(file, self._provider)
        except MachineError as error:
            if self._provider == CPU:
                raise
            build = f"build-engines MODELSET -o {self._folder} --backend onnxruntime"
            raise MachineError(f"{self._folder}: built for {self._provider}: {error}, or run '{build}' here") from error


def _provider(manifest: Manifest, where: Path) -> str:
    """The provider in ``built_on``; bundles of old name none, and are for the CPU."""
    built_on = manifest.get("built_on")
    provider = built_on.get("provider", CPU) if isinstance(built_on, dict) else CPU
    if provider not in (CPU, CUDA):
        raise InvalidFolder(f"{where}: provider {provider!r} is unknown to this version, expected {CPU} or {CUDA}")
    return str(provider)
