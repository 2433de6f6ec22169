"""The compatibility of a bundle's plans with this machine."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musetalk_runtime.backends.trt.gpu_facts import GpuFacts
from musetalk_runtime.core.errors import InvalidFolder, MachineError

COMPARED = {
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "driver": "driver",
    "tensorrt": "TensorRT",
    "os": "system",
}
FIRST_COMPATIBLE = [8, 6]
NEXT_MAJOR = {8: 10, 10: 11}  # TensorRT's, which also runs the version-compatible plans of the one before


def check_built_here(path: Path, built_on: Any, facts: GpuFacts, version_compatible: bool = False) -> None:
    """Raise MachineError unless the bundle at `path`, whose manifest says `built_on`, fits this machine.

    Plans are valid for one GPU, TensorRT and system, and were certified with one driver. Those built
    `version_compatible` also run on later versions of TensorRT, its lean runtime included.
    """
    if not isinstance(built_on, dict) or not COMPARED.keys() <= built_on.keys():
        raise InvalidFolder(f"{path}: its manifest does not say in 'built_on' on which {', '.join(COMPARED.values())}")
    here = {**asdict(facts), "gpu": facts.name}
    if facts.tensorrt is None:
        raise MachineError(f"{path}: it needs TensorRT {built_on['tensorrt']}, which is not installed: pip install it")
    if facts.lean and not version_compatible:
        raise MachineError(
            f"{path}: only TensorRT's lean runtime is here, which takes only plans that build-engines made "
            "with --version-compatible: build it again so, or pip install tensorrt"
        )
    differing = [name for name in COMPARED if built_on[name] != here[name]]
    if version_compatible and _runs_plans_of(facts.tensorrt, str(built_on["tensorrt"])):
        differing = [name for name in differing if name != "tensorrt"]
    if differing:
        built = ", ".join(f"{COMPARED[name]} {built_on[name]}" for name in differing)
        found = ", ".join(f"{COMPARED[name]} {here[name]}" for name in differing)
        option = " --version-compatible" if version_compatible else ""
        raise MachineError(
            f"{path}: built for {built}, this machine has {found}: run 'build-engines MODELSET -o {path}{option}' here"
        )


def _runs_plans_of(runtime: str, builder: str) -> bool:
    """Whether the TensorRT version `runtime` runs version-compatible plans of `builder`.

    It does from `builder` on, from 8.6 on, within a major version, and 10 runs those of 8, and 11 those of 10. NVIDIA
    supports no other pair (https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/getting-started/support-matrix.html).
    """
    found, built = ([int(part) for part in re.findall(r"\d+", text)] for text in (runtime, builder))
    if built < FIRST_COMPATIBLE:
        return False
    return NEXT_MAJOR.get(built[0]) == found[0] or (built[0] == found[0] and found >= built)
