"""A part of a file, for PyAV to read."""

from collections.abc import Mapping
from pathlib import Path


class FilePart:
    """The bytes from `begin` to `end` of the file at `path`, those at the offsets in `changed` replaced by others.

    PyAV does not close it.
    """

    def __init__(self, path: Path, begin: int, end: int, changed: Mapping[int, bytes]) -> None:
        self._file = path.open("rb")
        self._begin, self._end, self._changed = begin, end, changed
        self._file.seek(begin)

    def read(self, size: int) -> bytes:
        at = self._file.tell()
        data = self._file.read(max(0, min(size, self._end - at)))
        for offset, new in self._changed.items():
            first, last = max(offset, at), min(offset + len(new), at + len(data))
            if first < last:
                data = data[: first - at] + new[first - offset : last - offset] + data[last - at :]
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (self._begin, self._file.tell(), self._end)[whence]
        return self._file.seek(max(self._begin, base + offset)) - self._begin

    def tell(self) -> int:
        return self._file.tell() - self._begin

    def close(self) -> None:
        self._file.close()
