"""Media files that were joined end to end, as ``cat`` does it: where each begins.

Of the formats in which FFmpeg stops, or goes astray, at the second.
"""

import mmap
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MAX_FILES = 200  # that are told apart: a few bytes can make one
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the elements at the top of Matroska
MARKS = {b"fLaC": re.compile(rb"fLaC\x00\x00\x00\x22"), b"FLV\1": re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09")}
OGG_PAGE = re.compile(rb"OggS\x00[\x00\x01\x04\x05]")  # by its flags one that begins no stream
OGG_BEGIN = re.compile(rb"OggS\x00[\x02\x06]")


def beginnings(path: Path) -> list[int]:
    """The offset of each file in the file at `path`, at most MAX_FILES + 1 of them; the first is 0."""
    if not path.is_file() or not path.stat().st_size:
        return [0]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return list(islice(_beginnings(data), MAX_FILES + 1))


def _beginnings(data: mmap.mmap) -> Iterator[int]:
    at: int | None = 0
    while at is not None:
        yield at
        at = _next(data, at)


def _next(data: mmap.mmap, at: int) -> int | None:
    """Where the file after that at `at` begins, None for none."""
    magic = data[at : at + 4]
    if magic == b"RIFF" and data[at + 8 : at + 12] == b"WAVE":
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        return next((place for place in (end, end + 1) if data[place : place + 4] == b"RIFF"), None)
    if data[at + 4 : at + 8] == b"ftyp":
        return _next_mp4(data, at)
    if magic == EBML:
        return _next_matroska(data, at)
    found = None
    if magic == b"OggS":
        page = OGG_PAGE.search(data, at)
        found = page and OGG_BEGIN.search(data, page.end())
    elif magic in MARKS:
        found = MARKS[magic].search(data, at + 4)
    return found.start() if found else None


def _next_mp4(data: mmap.mmap, at: int) -> int | None:
    """From box to box, up to another ``ftyp``."""
    first = at
    while at + 16 <= len(data):
        if at > first and data[at + 4 : at + 8] == b"ftyp":
            return at
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size
        if size < 8:
            return None
        at += size
    return None


def _next_matroska(data: mmap.mmap, at: int) -> int | None:
    """After the header and the segment, where that says its size."""
    for name in (EBML, SEGMENT):
        if data[at : at + 4] != name or at + 5 > len(data):
            return None
        length = 9 - data[at + 4].bit_length()
        size = int.from_bytes(data[at + 4 : at + 4 + length], "big") - (1 << 7 * length)
        if length > 8 or size == (1 << 7 * length) - 1:  # not known
            return None
        at += 4 + length + size
    return at if data[at : at + 4] == EBML else None
