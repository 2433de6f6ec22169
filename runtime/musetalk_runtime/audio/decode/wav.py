"""RIFF WAV: whether a file is one, and whether it is whole."""

import struct
from pathlib import Path

UNKNOWN_LENGTH = 0x7FFF0000  # bytes: what programs that write into a pipe put there is about the largest number


def is_wav(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


def missing_bytes(path: Path) -> str:
    """What a WAV lacks of what its header promises, in words: FFmpeg hides that. Empty for one that is whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            start = file.tell()
            if name == b"data":
                if length < UNKNOWN_LENGTH and start + length > size:
                    return f"truncated: its header promises {length} bytes of audio, {size - start} are there"
                break
            file.seek(start + length + length % 2)
    return ""
