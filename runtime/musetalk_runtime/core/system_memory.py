"""The memory of this machine, and which process the kernel ends first where it runs out."""

from contextlib import suppress
from pathlib import Path

FIRST = "800"  # thousandths of the machine's memory, as if the process held so much more


def system_memory() -> tuple[int, int]:
    """Bytes available to a program that asks for them, and in all, as ``/proc/meminfo`` says.

    Available is also what the page cache would give back.
    """
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024


def kill_first(pid: int) -> None:
    """Where memory runs out, let the kernel end the process `pid` before this one, for which it works.

    For whoever starts it, and at once: memory may run out while it starts. See ``oom_score_adj`` in proc(5). Nothing
    happens where there is no such file.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(FIRST, encoding="ascii")
