"""A parser of the boxes of fragmented MP4 that a live stream is cut by."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from musetalk_runtime.core.errors import InvalidMedia

NON_SYNC = 0x10000  # sample_is_non_sync_sample, of a sample's flags
HEADER_BYTES = 8  # of a box, before its content


@dataclass(frozen=True)
class Track:
    """A track of the stream: its number, ``vide`` or ``soun``, ticks a second, and a sample's flags by default."""

    number: int
    kind: str
    timescale: int
    flags: int


@dataclass(frozen=True)
class Run:
    """What a fragment holds of one track: the time of its first sample in seconds, whether that is a keyframe, and how
    many samples there are.
    """

    track: Track
    start: float
    keyframe: bool
    samples: int


def children(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of the boxes that `data` consists of; raises InvalidMedia where a size is out of bounds."""
    at = 0
    while at < len(data):
        if len(data) - at < HEADER_BYTES:
            raise InvalidMedia(f"an MP4 box is cut off after {len(data) - at} bytes")
        size, name = struct.unpack_from(">I4s", data, at)
        if not HEADER_BYTES <= size <= len(data) - at:
            raise InvalidMedia(f"an MP4 box {name!r} has size {size}, expected {HEADER_BYTES} to {len(data) - at}")
        yield name.decode("latin-1"), data[at + HEADER_BYTES : at + size]
        at += size


def read_tracks(moov: bytes) -> dict[int, Track]:
    """The tracks in the content of a ``moov`` box, by number; raises InvalidMedia."""
    flags: dict[int, int] = {}
    found: list[tuple[int, str, int]] = []
    for name, content in children(moov):
        if name == "trak":
            found.append(_read_track(content))
        elif name == "mvex":
            trex = (_numbers(inner, 4, ">5I") for kind, inner in children(content) if kind == "trex")
            flags.update((track, default) for track, _, _, _, default in trex)
    return {number: Track(number, kind, scale, flags.get(number, 0)) for number, kind, scale in found}


def read_runs(moof: bytes, tracks: dict[int, Track]) -> list[Run]:
    """What the content of a ``moof`` box says of each track with samples in it; raises InvalidMedia."""
    runs = (_read_run(dict(children(content)), tracks) for name, content in children(moof) if name == "traf")
    return [run for run in runs if run]


def _read_track(trak: bytes) -> tuple[int, str, int]:
    boxes = dict(children(trak))
    media = dict(children(boxes.get("mdia", b"")))
    header, media_header = boxes.get("tkhd", b""), media.get("mdhd", b"")
    (number,) = _numbers(header, 20 if header[:1] == b"\1" else 12, ">I")
    (timescale,) = _numbers(media_header, 20 if media_header[:1] == b"\1" else 12, ">I")
    (kind,) = _numbers(media.get("hdlr", b""), 8, ">4s")
    if not timescale:
        raise InvalidMedia(f"MP4 track {number} has a timescale of 0")
    return number, str(kind, "latin-1"), timescale


def _read_run(traf: dict[str, bytes], tracks: dict[int, Track]) -> Run | None:
    header, run = traf.get("tfhd", b""), traf.get("trun")
    (number,) = _numbers(header, 4, ">I")
    if number not in tracks:
        raise InvalidMedia(f"an MP4 fragment is of track {number}, expected one of {sorted(tracks)}")
    track = tracks[number]
    (samples,) = (0,) if run is None else _numbers(run, 4, ">I")
    if run is None or not samples:
        return None
    time = traf.get("tfdt", b"")
    (ticks,) = _numbers(time, 4, ">Q" if time[:1] == b"\1" else ">I")
    return Run(track, ticks / track.timescale, not _first_flags(header, run, track.flags) & NON_SYNC, samples)


def _first_flags(tfhd: bytes, trun: bytes, default: int) -> int:
    """The flags of a run's first sample: from the run, else from the fragment's header, else the track's."""
    (bits,) = _numbers(trun, 0, ">I")
    at = 8 + 4 * bool(bits & 0x1)
    if bits & 0x4:
        return int(_numbers(trun, at, ">I")[0])
    if bits & 0x400:
        return int(_numbers(trun, at + 4 * bool(bits & 0x100) + 4 * bool(bits & 0x200), ">I")[0])
    (bits,) = _numbers(tfhd, 0, ">I")
    if bits & 0x20:
        at = 8 + 8 * bool(bits & 0x1) + 4 * sum(bool(bits & bit) for bit in (0x2, 0x8, 0x10))
        return int(_numbers(tfhd, at, ">I")[0])
    return default


def _numbers(data: bytes, at: int, form: str) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise InvalidMedia(f"an MP4 box of {len(data)} bytes is too short") from None
