"""The heap that PyTorch computes on."""

import platform
import resource

import pytest
import torch

from musetalk_distill.heap import keep_freed_memory

PAGE = resource.getpagesize()
BYTES = 64 << 20  # more than glibc keeps by itself


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.35"), reason="no glibc that keeps so much")
def test_memory_that_was_freed_is_not_touched_anew() -> None:
    keep_freed_memory()
    touched = [touch() for _ in range(20)]  # the heap grows at first
    assert min(touched) < BYTES // PAGE // 10, touched


def touch() -> int:
    """The pages that are new when memory is taken and written to."""
    before = faults()
    torch.empty(BYTES // 4).fill_(1)
    return faults() - before


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
