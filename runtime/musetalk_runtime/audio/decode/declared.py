"""How long a file says its audio is."""

from pathlib import Path
from typing import Any

ESTIMATED = {"aac", "ac3", "eac3", "amr", "mpegts", "mpeg", "mp3"}  # FFmpeg takes the length from the bit rate
XING = (b"Xing", b"Info", b"VBRI")  # in an MP3's first frame: how many frames there are
MAX_FRAME_BYTES = 2048
ID3_BYTES = 10


def declared_seconds(path: Path, container: Any, stream: Any) -> float:
    """By the header of the file at `path`; 0 where it says nothing."""
    if not (stream.duration and stream.time_base):
        return 0.0
    names = set(container.format.name.split(","))
    if names & ESTIMATED and not ("mp3" in names and _counts_frames(path)):
        return 0.0
    return float(stream.duration * stream.time_base)


def _counts_frames(path: Path) -> bool:
    """Whether an MP3 does, behind its ID3 tag."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(ID3_BYTES)
        tag = 0
        if head[:3] == b"ID3":
            for byte in head[6:]:
                tag = tag << 7 | byte & 0x7F
            tag += ID3_BYTES
        file.seek(tag)
        first = file.read(MAX_FRAME_BYTES)
    return any(mark in first for mark in XING)
