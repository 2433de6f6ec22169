"""The bit rate of a session by WebRTC, and what libx264 makes of it."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.processes.encoder_pool import EncoderPool
from musetalk_runtime.output.processes.remote_muxer import open_muxer
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.service.delivery.bit_rate import BitRate, most_kbps

FPS = Fraction(25)


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def send(rate: BitRate, clock: Clock, kbps: float) -> None:
    """A second of frames."""
    for _ in range(25):
        clock.at += 1 / 25
        rate.sent(round(kbps * 1000 / 8 / 25))


def test_a_path_that_holds_less_than_is_sent_is_taken_at_once_and_trusted_slowly(clock: Clock) -> None:
    rate = BitRate(3000, clock)
    send(rate, clock, 2000)
    rate.estimate("one", 1000)
    assert rate.now() == 900
    send(rate, clock, 900)
    rate.estimate("one", 1400)
    assert rate.now() == 990
    for _ in range(20):
        rate.estimate("one", 9000)
    assert rate.now() == 3000


def test_an_estimate_above_what_is_sent_lowers_nothing(clock: Clock) -> None:
    rate = BitRate(3000, clock)
    send(rate, clock, 200)  # a picture that hardly moves
    rate.estimate("one", 310)
    assert rate.now() == 3000


def test_the_viewer_who_can_receive_least_decides_until_it_leaves(clock: Clock) -> None:
    rate = BitRate(3000, clock)
    send(rate, clock, 2500)
    rate.estimate("one", 500)
    rate.estimate("two", 2000)
    assert rate.now() == 450
    rate.forget("one")
    assert rate.now() == 1800
    rate.forget("two")
    assert rate.now() == 3000


def test_there_is_a_least_rate(clock: Clock) -> None:
    rate = BitRate(most_kbps(1280, 720, FPS), clock)
    assert rate.now() == 3456
    send(rate, clock, 3000)
    rate.estimate("one", 0)
    assert rate.now() == 50


@pytest.mark.parametrize("apart", [False, True])
def test_libx264_follows_here_and_in_a_process(apart: bool) -> None:
    pictures = np.random.default_rng(0).integers(16, 235, (5, 360, 320), dtype=np.uint8)
    pieces, sizes = Pieces(), []
    options = VideoOptions("x264", 2000, threads=1, steered=True)
    arguments = pieces, "mp4", Picture(320, 240, FPS), 1, options, Timings()
    with EncoderPool(1) as pool:
        if apart:
            pool.release(pool.wait())
        with open_muxer(pool, *arguments) if apart else Muxer(*arguments) as muxer:
            for k in range(150):
                frame = Frame(k, k / FPS, pictures[k % 5], np.zeros((1, 1920), np.float32))
                sizes += [len(unit.data) for unit in muxer.put(frame, kbps=500 if k >= 50 else None)]
    before, after = (sum(part) * 8 / 1000 / 2 for part in (sizes[:50], sizes[100:]))
    assert before == pytest.approx(2000, rel=0.25)
    assert after == pytest.approx(500, rel=0.25)
    with av.open(io.BytesIO(pieces.take())) as container:
        assert sum(1 for _ in container.decode(video=0)) == 150
