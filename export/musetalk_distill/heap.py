"""The heap of a process that computes with PyTorch on a CPU."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 1 << 30
OLD_KEPT_BYTES = 32 << 20  # the most that an older glibc takes for M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Let glibc keep buffers of up to 1 GiB that are freed, for the next one; elsewhere nothing is changed.

    By default it gives large ones back to the system. PyTorch takes new ones for every layer, and touching their pages
    again takes up to half of the time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    if not mallopt(M_MMAP_THRESHOLD, KEPT_BYTES):
        mallopt(M_MMAP_THRESHOLD, OLD_KEPT_BYTES)
