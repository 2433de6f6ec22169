"""The processor of this machine, to be told beside what was measured on it."""

import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from musetalk_runtime.core.cores import available_cores

CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")  # of machines without a name of the processor in CPUINFO, as most of Arm's


def processor() -> dict[str, Any]:
    """Its name, as the kernel gives it, and how many of its cores this process may use."""
    return {"processor": _name(), "cores": available_cores()}


def _name() -> str:
    with suppress(OSError):
        if found := re.search(r"^(?:model name|Model)\s*:\s*(.+)$", CPUINFO.read_text(encoding="utf-8"), re.MULTILINE):
            return found[1].strip()
    with suppress(OSError):
        return BOARD.read_text(encoding="utf-8").rstrip("\0\n")
    return platform.processor() or platform.machine()
