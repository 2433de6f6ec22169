"""RIFF WAV: what its header says that is not so, and whether it is whole."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

UNKNOWN_LENGTH = 0x7FFF0000  # bytes: what programs that write into a pipe put there is about the largest number
EXTENSIBLE = 0xFFFE  # whose 20th byte says how many bits of a sample count
DS64_LENGTHS = struct.Struct("<qqq")  # of the file, of the audio, in samples


@dataclass(frozen=True)
class WavHeader:
    """What FFmpeg is to read in place of some bytes, by their offset in the file; and what a WAV lacks, in words."""

    changed: dict[int, bytes] = field(default_factory=dict)
    missing: str = ""


def is_wav(path: Path, begin: int = 0) -> bool:
    """Whether a WAV of any kind begins there."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(begin)
        head = file.read(12)
    return head[:4] in {b"RIFF", b"RF64", b"BW64"} and head[8:] == b"WAVE"


def read_header(path: Path, begin: int, end: int) -> WavHeader:
    """The header of the WAV between two offsets in a file.

    FFmpeg takes samples of 24 bits in 32 for floats, refuses an RF64 whose length nobody filled in, and hides that a
    file is shorter than it says.
    """
    changed: dict[int, bytes] = {}
    ds64 = None
    with path.open("rb") as file:
        file.seek(begin + 12)
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            start = file.tell()
            if name == b"ds64":
                ds64, length = start, max(length, DS64_LENGTHS.size)
                _, long_length, _ = DS64_LENGTHS.unpack(file.read(DS64_LENGTHS.size).ljust(DS64_LENGTHS.size, b"\0"))
            elif name == b"fmt ":
                layout = file.read(20)
                extensible = layout[:2] == struct.pack("<H", EXTENSIBLE) and len(layout) == 20
                if extensible and layout[14:16] != layout[18:20]:
                    changed[start + 18] = layout[14:16]
            elif name == b"data":
                there = end - start
                if ds64 is None:
                    return WavHeader(changed, _missing(length, there, UNKNOWN_LENGTH))
                if not 0 < long_length <= there:
                    changed[ds64] = DS64_LENGTHS.pack(end - begin - 8, there, 0)
                return WavHeader(changed, _missing(long_length, there, 1 << 40))
            file.seek(start + length + length % 2)
    return WavHeader(changed)


def _missing(promised: int, there: int, unknown: int) -> str:
    if there < promised < unknown:
        return f"truncated: its header promises {promised} bytes of audio, {there} are there"
    return ""
