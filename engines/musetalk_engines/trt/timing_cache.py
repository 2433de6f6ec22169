"""TensorRT's timing cache: the times of kernels that it measured before, and need not measure again."""

from collections.abc import Iterable
from pathlib import Path

from musetalk_runtime.storage.output_file import write_output

TIMING_CACHE = "timing.cache"  # in a bundle


class TimingCache:
    """A file that each build reads and extends; it begins as the first of `seeds` that exists.

    A cache of another GPU or TensorRT is refused by TensorRT itself, and then begun anew.
    """

    def __init__(self, file: Path, seeds: Iterable[Path]) -> None:
        self.file = file
        self._seeds = tuple(seeds)

    def read(self) -> bytes:
        """What was measured so far; empty at the first build."""
        for file in (self.file, *self._seeds):
            if file.is_file():
                return file.read_bytes()
        return b""

    def write(self, content: bytes | memoryview) -> None:
        """Replace the file, whole or not at all; raises OutputError."""
        write_output(self.file, bytes(content))
