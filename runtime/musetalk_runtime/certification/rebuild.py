"""A plan that is off, built again in a safer variant, by a process of its own: the builder takes gigabytes."""

import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from musetalk_runtime.core.errors import MachineError, PlanError
from musetalk_runtime.core.worker import worker_command

BUILDER = "musetalk_engines.trt.rebuild"


def rebuild_plan(bundle: Path, graph: str, variant: str, folder: Path, progress: Callable[[str], None]) -> Path:
    """Build `graph` of `bundle` as `variant` for this GPU into `folder`; gives the plan.

    Raises PlanError if it cannot be built, MachineError where the builder or what it needs is not installed.
    """
    if find_spec("onnx") is None:
        raise MachineError(f"{graph} is built again with onnx, which is not here: pip install 'musetalk-edge[engines]'")
    command = [*worker_command(BUILDER), str(bundle), graph, variant, str(folder)]
    last = "it gave no reason"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            last = line.strip() or last
            progress(last)
    if process.returncode:
        raise PlanError(f"{graph} ({variant}) cannot be built again: {last}")
    return folder / f"{graph}.plan"
