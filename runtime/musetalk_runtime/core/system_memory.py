"""The memory of this machine."""

from pathlib import Path


def system_memory() -> tuple[int, int]:
    """Bytes available to a program that asks for them, and in all, as ``/proc/meminfo`` says.

    Available is also what the page cache would give back.
    """
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024
