"""The CPU cores that this process may use."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_cores() -> float:
    """How many cores' time it gets: those it is bound to, or less where a control group has a quota of CPU time.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``), and for version 1
    https://docs.kernel.org/scheduler/sched-bwc.html (``cpu.cfs_quota_us``).
    """
    return min([float(len(os.sched_getaffinity(0))), *_quotas()])


def _quotas() -> Iterator[float]:
    """The quotas of the process's control group and of those it is in, in cores."""
    for folder in _folders():
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield max(0.01, float(quota) / float(period))  # "max" is no number
        with suppress(OSError, ValueError):
            if (limit := int((folder / "cpu.cfs_quota_us").read_text())) > 0:
                yield max(0.01, limit / int((folder / "cpu.cfs_period_us").read_text()))


def _folders() -> Iterator[Path]:
    with suppress(OSError, ValueError):
        for line in PROC.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = CGROUPS / "cpu" if controllers else CGROUPS
            group = root / path.lstrip("/")
            # In a container the path may be the host's, while the folder is mounted as the root.
            yield from dict.fromkeys([*(part for part in (group, *group.parents) if root in part.parents), root])
