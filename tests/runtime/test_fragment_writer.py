"""Fragments of MP4: when each is written, and what is in it."""

import io
import struct
from fractions import Fraction
from itertools import accumulate

import av
import numpy as np
import pytest

from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import Muxer, StreamStart
from musetalk_runtime.output.nal_units import length_prefixed
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.service.delivery.fragments import Fragment, Splitter
from musetalk_runtime.service.delivery.mp4_boxes import Run, children, read_runs, read_tracks

OPTIONS = VideoOptions("x264", threads=1)
AHEAD_S = Fraction(3, 25)  # seconds that sound runs ahead of its frame, as in a session


def put(muxer: Muxer, first: int, count: int, fps: Fraction, sent: int = 0, forced: int = -1) -> list[int]:
    """Put so many frames, each with its sound; how far in samples the sound has come with each."""
    pictures = np.random.default_rng(0).integers(16, 235, (8, 72, 64), dtype=np.uint8)
    ends = [int(((k + 1) / fps + AHEAD_S) * 48_000) for k in range(first, first + count)]
    for k, begin, end in zip(range(first, first + count), [sent, *ends], ends, strict=False):
        sound = np.full((1, end - begin), 0.1, np.float32)
        muxer.put(Frame(k, k / fps, pictures[k % 8], sound), k == forced)
    return ends


def made(fps: Fraction, count: int, forced: int = -1) -> tuple[bytes, list[Fragment]]:
    """The init segment, and the fragments of a stream of so many frames."""
    pieces, splitter = Pieces(), Splitter()
    with Muxer(pieces, "mp4", Picture(64, 48, fps), 1, OPTIONS) as muxer:
        put(muxer, 0, count, fps, forced=forced)
    fragments = splitter.feed(pieces.take())
    splitter.finish()
    assert splitter.init
    return splitter.init, fragments


def runs(init: bytes, fragment: Fragment) -> dict[str, Run]:
    """What a fragment has, by the kind of track."""
    tracks = read_tracks(dict(children(init))["moov"])
    return {run.track.kind: run for run in read_runs(dict(children(fragment.data))["moof"], tracks)}


def times(data: bytes) -> list[tuple[str, int, int]]:
    """The packets of a stream, by track: when each begins, and how long it is."""
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        return sorted((packet.stream.type, int(packet.pts or 0), int(packet.duration or 0)) for packet in packets)


def test_the_first_frame_can_be_seen_before_there_is_a_second() -> None:
    pieces = Pieces()
    with Muxer(pieces, "mp4", Picture(64, 48, Fraction(25)), 1, OPTIONS) as muxer:
        put(muxer, 0, 1, Fraction(25))
        data = pieces.take()
        assert data.count(b"moof") == 1
        with av.open(io.BytesIO(data)) as container:
            assert [frame.pts for frame in container.decode(video=0)] == [0]
        with av.open(io.BytesIO(data)) as container:
            assert [packet.pts for packet in container.demux(audio=0) if packet.size] == [0, 1024]


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(30_000, 1001)], ids=str)
def test_a_fragment_is_there_with_its_last_frame(fps: Fraction) -> None:
    pieces = Pieces()
    with Muxer(pieces, "mp4", Picture(64, 48, fps), 1, OPTIONS) as muxer:
        pieces.take()
        sent, written = 0, []
        for k in range(12):
            sent = put(muxer, k, 1, fps, sent)[0]
            written.append(bool(pieces.take()))
    size = int(fps / 10)
    assert written == [k == 0 or (k + 1) % size == 0 for k in range(12)]


@pytest.mark.parametrize(
    ("fps", "frames"),
    [
        (10, [1] * 25),
        (25, [1, 1, *[2] * 11, 1, *[2] * 12, 1, 1]),
        (30, [1, 2, *[3] * 16]),
        (50, [1, 4, *[5] * 9, 1]),
    ],
)
def test_the_first_fragment_takes_a_frame_from_the_second(fps: int, frames: list[int]) -> None:
    _, fragments = made(Fraction(fps), sum(frames))
    assert [fragment.frames for fragment in fragments if fragment.frames] == frames  # sound is left at the end


def test_a_fragment_begins_with_a_keyframe_out_of_turn() -> None:
    _, fragments = made(Fraction(25), 20, forced=9)
    assert [fragment.frames for fragment in fragments] == [1, 1, 2, 2, 2, 1, 2, 2, 2, 2, 2, 1]
    assert [fragment.number for fragment in fragments if fragment.keyframe] == [1, 7]


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(25), Fraction(30_000, 1001), Fraction(50)], ids=str)
def test_a_fragment_has_the_sound_that_begins_in_it(fps: Fraction) -> None:
    init, fragments = made(fps, 40)
    sounds = [runs(init, fragment)["soun"] for fragment in fragments]
    ends = list(accumulate(fragment.frames for fragment in fragments))
    packets = list(accumulate(sound.samples for sound in sounds))
    assert [round(sound.start * 48_000 / 1024) for sound in sounds] == [0, *packets[:-1]]
    for end, count in list(zip(ends, packets, strict=True))[:-3]:  # the last ones have what is left
        assert count == int(end / fps * 48_000) // 1024 + 1


def test_a_stream_goes_on_where_another_muxer_left_it() -> None:
    fps, picture, splitter = Fraction(25), Picture(64, 48, Fraction(25)), Splitter()
    whole, first, second = Pieces(), Pieces(), Pieces()
    with Muxer(whole, "mp4", picture, 1, OPTIONS) as muxer:
        put(muxer, 0, 40, fps)
    left = Muxer(first, "mp4", picture, 1, OPTIONS)
    ends = put(left, 0, 14, fps)
    start = left.unwritten
    assert start == StreamStart(14, (14 * 1920 // 1024 + 1) * 1024)
    with Muxer(second, "mp4", picture, 1, OPTIONS, start=start) as muxer:
        assert muxer.unwritten == start
        second.take()  # its own init segment
        muxer.sound(np.full((1, ends[-1] - start.sample), 0.1, np.float32))
        put(muxer, 14, 26, fps, sent=ends[-1])
    joined, expected = first.take() + second.take(), whole.take()
    fragments = splitter.feed(joined)
    numbers = [struct.unpack_from(">I", part.data, part.data.index(b"mfhd") + 8)[0] for part in fragments]
    assert numbers == sorted(set(numbers))
    assert times(joined) == times(expected)


def test_nal_units_get_their_length_in_place_of_start_codes() -> None:
    first, second = b"\x67\x42\0\x0a", b"\x65\0\0\x03\x01"
    assert length_prefixed(b"\0\0\0\1" + first + b"\0\0\1" + second) == b"\0\0\0\4" + first + b"\0\0\0\5" + second
    assert length_prefixed(b"\0\0\1" + first + b"\0\0\0\0\1" + second + b"\0") == length_prefixed(
        b"\0\0\0\1" + first + b"\0\0\0\1" + second
    )
    assert length_prefixed(b"") == b""
