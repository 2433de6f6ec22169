"""A stream cut into fragments."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.delivery.fragments import MAX_FRAGMENT_BYTES, Splitter, split


@pytest.fixture(scope="module")
def stream(bundle: Path, avatar: Path, speech: Callable[[float], Path]) -> bytes:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, Session(b, a, speech(3.0), fps=25) as session:
        return b"".join(session.stream())


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


@pytest.mark.parametrize("size", [13, 5000, 1 << 20])
def test_the_fragments_are_the_stream(stream: bytes, size: int) -> None:
    init, fragments = split(stream[at : at + size] for at in range(0, len(stream), size))
    assert init is not None
    assert init + b"".join(fragment.data for fragment in fragments) == stream
    assert [fragment.number for fragment in fragments] == list(range(1, len(fragments) + 1))
    assert all(stream[fragment.offset : fragment.end] == fragment.data for fragment in fragments)
    for fragment in fragments:
        at = fragment.data.index(b"mfhd")
        assert struct.unpack_from(">I", fragment.data, at + 8) == (fragment.number,)


def test_fragments_are_of_two_frames_from_a_keyframe_on_but_the_first_two_of_one(stream: bytes) -> None:
    _, fragments = split([stream])
    second = [2] * 12 + [1]
    assert [fragment.frames for fragment in fragments] == [1, 1, *second[1:], *second * 2]
    assert [fragment.segment for fragment in fragments] == [1] * 14 + [2] * 13 + [3] * 13


def test_times_and_keyframes_are_those_of_the_frames(stream: bytes) -> None:
    init, fragments = split([stream])
    starts = [fragment.start for fragment in fragments]
    assert starts == sorted(starts)
    with av.open(io.BytesIO(stream)) as container:
        keyframes = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.is_keyframe and p.size]
    assert [fragment.start for fragment in fragments if fragment.keyframe] == pytest.approx(keyframes)
    assert keyframes == [0, 1, 2]
    later = next(fragment for fragment in fragments if fragment.keyframe and fragment.start == 1)
    assert init is not None
    with av.open(io.BytesIO(init + stream[later.offset :])) as container:
        frames = [float(frame.time) for frame in container.decode(video=0)]
    assert frames == pytest.approx([k / 25 for k in range(25, 75)])


def test_boxes_out_of_order_or_bounds_are_refused(stream: bytes) -> None:
    init, fragments = split([stream])
    assert init is not None
    moof = fragments[0].data
    start = moof.index(b"moof") - 4
    header = struct.unpack_from(">I", moof, start)[0]
    too_large = MAX_FRAGMENT_BYTES + 1
    bad = {
        "begins with": [box(b"moov"), box(b"free"), box(b"ftyp") + moof],
        "out of order": [init + init, init + moof[: start + header] * 2, init + box(b"mdat")],
        "out of range": [struct.pack(">I4s", 7, b"ftyp"), init + struct.pack(">I4s", too_large, b"mdat"), bytes(8)],
        "too short": [init + box(b"moof", box(b"traf", box(b"tfhd"))) + box(b"mdat")],
        "cut off": [init + box(b"moof", b"abc") + box(b"mdat")],
        "has size": [init + box(b"moof", struct.pack(">I4s", 99, b"traf")) + box(b"mdat")],
        "of track": [init + box(b"moof", box(b"traf", box(b"tfhd", struct.pack(">2I", 0, 9)))) + box(b"mdat")],
        "in the middle": [b"", init[:-1], init + moof[:-1], init + moof[: start + header], stream + box(b"mfra")],
    }  # fmt: skip
    for message, streams in bad.items():
        for data in streams:
            with pytest.raises(InvalidMedia, match=message):
                split([data])


def test_nothing_that_is_flipped_makes_it_fail_in_another_way(stream: bytes) -> None:
    init, _ = split([stream])
    assert init is not None
    head = stream[: len(init) + 600]
    for at in range(0, len(head), 3):
        splitter = Splitter()
        try:
            splitter.feed(head[:at] + bytes([head[at] ^ 0xFF]) + head[at + 1 :])
        except InvalidMedia:
            continue
