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


def check_built_here(path: Path, built_on: Any, facts: GpuFacts, version_compatible: bool = False) -> None:
    """Raise MachineError unless the bundle at `path`, whose manifest says `built_on`, fits this machine.

    Plans are valid for one GPU, TensorRT and system, and were certified with one driver. Those built
    `version_compatible` also run on later versions of TensorRT, its lean runtime included; taken are those of the same
    major version.
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
    if version_compatible and _is_later(facts.tensorrt, str(built_on["tensorrt"])):
        differing = [name for name in differing if name != "tensorrt"]
    if differing:
        built = ", ".join(f"{COMPARED[name]} {built_on[name]}" for name in differing)
        found = ", ".join(f"{COMPARED[name]} {here[name]}" for name in differing)
        option = " --version-compatible" if version_compatible else ""
        raise MachineError(
            f"{path}: built for {built}, this machine has {found}: run 'build-engines MODELSET -o {path}{option}' here"
        )


def _is_later(version: str, than: str) -> bool:
    """Whether `version` is `than` or a later one of the same major version."""
    found, builders = ([int(part) for part in re.findall(r"\d+", text)] for text in (version, than))
    return found[:1] == builders[:1] and found >= builders
