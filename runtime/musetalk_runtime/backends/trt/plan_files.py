"""Where the plans of a bundle are, once it is sure that they may run on this machine."""

from pathlib import Path
from typing import Protocol

from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN
from musetalk_runtime.backends.trt.compatibility import check_built_here
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts
from musetalk_runtime.backends.trt.tensorrt_api import TENSORRT
from musetalk_runtime.storage.folder import Manifest, listed_file


class PlanFiles(Protocol):
    """The files of a bundle on a GPU.

    ``runtime_library`` is the one that runs the plans; ``cuda_graph`` says whether capturing its work is not known to
    fail; ``largest_batch`` is the largest batch size that is used, None for the plans' own.
    """

    runtime_library: str

    @property
    def cuda_graph(self) -> bool: ...

    @property
    def largest_batch(self) -> int | None: ...

    def check(self) -> None:
        """Raise MachineError unless the plans were certified on this machine."""

    def plan(self, graph: str) -> Path:
        """The plan of `graph`."""

    def runtime_cache(self, graph: str) -> bytes:
        """What was compiled for the plan of `graph` in an earlier run; empty where nothing is kept."""

    def cubin(self) -> Path:
        """The compose kernels for this GPU."""


class BuiltHere:
    """A bundle that this machine built, and certified then. See `PlanFiles`."""

    runtime_library = TENSORRT
    cuda_graph = True
    largest_batch = None

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    def check(self) -> None:
        compatible = self._manifest.get("version_compatible") is True
        check_built_here(self._folder, self._manifest.get("built_on"), gpu_facts(), compatible)

    def plan(self, graph: str) -> Path:
        return listed_file(self._folder, self._manifest, f"{graph}.plan")

    def runtime_cache(self, graph: str) -> bytes:  # noqa: ARG002
        return b""

    def cubin(self) -> Path:
        return listed_file(self._folder, self._manifest, COMPOSE_CUBIN)
