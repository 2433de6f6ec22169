"""The options of a TensorRT build."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BuildOptions:
    """How the plans of one bundle are built.

    ``precision``, ``fp16`` or ``fp32``, is that of the arithmetic and of the plans' inputs and outputs. ``level`` is
    TensorRT's optimisation level, 0 to 5 (docs/measured.md: what a level more costs and gains). ``max_memory`` bounds
    its workspace, in MiB; None leaves it TensorRT's own bound, the GPU's memory. ``version_compatible`` plans run on
    later TensorRTs too (docs/bundles.md: on which), and on their lean runtimes; none is packed, for a plan that carries
    code would have to be trusted with it. ``timing_cache`` is a file of an earlier build to start from. ``verbose``
    passes on all that TensorRT says. ``targets`` are the compute capabilities (``sm_121``) that TensorRT for RTX builds
    for, which takes no level, memory, compatibility or timing cache.
    """

    batch_sizes: tuple[int, ...] = (1, 4)
    precision: str = "fp16"
    level: int = 2
    max_memory: int | None = None
    version_compatible: bool = False
    timing_cache: Path | None = None
    verbose: bool = False
    targets: tuple[str, ...] = ()
