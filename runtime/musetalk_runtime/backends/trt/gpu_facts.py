"""The facts about this machine's GPU and TensorRT that a plan depends on."""

import platform
from dataclasses import dataclass
from typing import Any

from musetalk_runtime.backends.cuda.device import driver_version, free_memory, is_integrated, open_device
from musetalk_runtime.backends.trt import tensorrt_api


@dataclass(frozen=True)
class GpuFacts:
    """``compute_capability`` is as "9.0"; ``tensorrt`` and ``tensorrt_rtx`` are versions, None where not installed.

    ``lean`` says that TensorRT is its lean runtime only, which takes version-compatible plans and no others.

    ``driver`` is the driver's version ("580.65.06"), or the CUDA version it brings ("CUDA 13.0") where only that can
    be read. ``memory_mb`` is all of the GPU's memory, in 1e6 bytes; the machine's where they share it, which is what
    ``integrated`` says. ``os`` is the system that runs here ("Linux aarch64").
    """

    name: str
    compute_capability: str
    driver: str
    memory_mb: int
    tensorrt: str | None
    lean: bool = False
    tensorrt_rtx: str | None = None
    os: str = f"{platform.system()} {platform.machine()}"
    integrated: bool = False

    @property
    def arch(self) -> str:
        """The compute capability as compilers call it ("sm_90")."""
        return f"sm_{self.compute_capability.replace('.', '')}"

    def identity(self, library: str) -> dict[str, Any]:
        """What a plan is tied to; `library` is the field of the one that runs it, ``tensorrt`` or ``tensorrt_rtx``."""
        names = ("compute_capability", "driver", library, "os")
        return {"gpu": self.name, **{name: getattr(self, name) for name in names}}


def gpu_facts() -> GpuFacts:
    """What the first GPU is; raises MachineError where there is none."""
    device = open_device()
    major, minor = device.compute_capability
    _, total = free_memory()
    return GpuFacts(
        name=str(device.name),
        compute_capability=f"{major}.{minor}",
        driver=driver_version(),
        memory_mb=total // 1_000_000,
        tensorrt=tensorrt_api.version(),
        lean=tensorrt_api.is_lean(),
        tensorrt_rtx=tensorrt_api.version(tensorrt_api.RTX),
        integrated=is_integrated(),
    )
