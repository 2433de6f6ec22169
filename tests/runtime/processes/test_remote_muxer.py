"""Streams that encoder processes make, and go on with where one ends."""

import io
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.processes import starting_slowly
from helpers.service_client import until
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import BEGINNING, Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.processes import encoder_pool, encoder_process, shared_frames
from musetalk_runtime.output.processes.encoder_pool import EncoderPool
from musetalk_runtime.output.processes.encoder_process import EncoderProcess
from musetalk_runtime.output.processes.messages import Opening
from musetalk_runtime.output.processes.remote_muxer import RemoteMuxer, open_muxer
from musetalk_runtime.output.video import Picture, VideoOptions

PICTURE = Picture(320, 240, Fraction(25))
OPTIONS = VideoOptions("x264", threads=1)
FRAMES = 60


@pytest.fixture
def pool() -> Iterator[EncoderPool]:
    with EncoderPool(2) as made:
        made.release(made.wait())
        yield made


def opened(pool: EncoderPool, pieces: Pieces, picture: Picture = PICTURE) -> RemoteMuxer:
    muxer = open_muxer(pool, pieces, "mp4", picture, 1, OPTIONS, Timings())
    assert isinstance(muxer, RemoteMuxer)
    return muxer


def stream(
    muxer: Muxer | RemoteMuxer, pieces: Pieces, before: Callable[[int], None] = lambda _: None, together: int = 1
) -> bytes:
    """60 frames of noise with a tone, which runs four frames ahead, so many `together`; `before` is called with each
    index.
    """
    pictures = np.random.default_rng(0).integers(16, 235, (8, 360, 320), dtype=np.uint8)
    tone = (0.3 * np.sin(np.arange((FRAMES + 4) * 1920) * 0.06)).astype(np.float32)[None]
    data, sent = b"", 0
    with muxer:
        for k in range(FRAMES):
            before(k)
            end = (k + 4) * 1920
            frame = Frame(k, Fraction(k, 25), pictures[k % 8], tone[:, sent:end])
            muxer.put(frame, k == 33, more=(k + 1) % together > 0)
            data, sent = data + pieces.take(), end
        before(FRAMES)
    return data + pieces.take()


@cache
def here() -> bytes:
    pieces = Pieces()
    return stream(Muxer(pieces, "mp4", PICTURE, 1, OPTIONS), pieces)


def times(data: bytes, kind: str) -> list[tuple[int, bool]]:
    with av.open(io.BytesIO(data)) as container:
        packets = container.demux(**{kind: 0})
        return [(packet.pts, packet.is_keyframe) for packet in packets if packet.pts is not None]


def sound(data: bytes) -> Floats:
    with av.open(io.BytesIO(data)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def kill_all(pool: EncoderPool) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)


def test_a_process_makes_the_stream_that_this_one_would(pool: EncoderPool) -> None:
    pieces = Pieces()
    assert stream(opened(pool, pieces), pieces) == here()


@pytest.mark.parametrize("together", [5, 7, 100], ids=str)  # the last ones of which wait for more in vain
def test_frames_that_go_together_are_encoded_as_each_by_itself(pool: EncoderPool, together: int) -> None:
    pieces = Pieces()
    assert stream(opened(pool, pieces), pieces, together=together) == here()


def test_the_last_of_frames_that_go_together_gives_the_units_of_all(pool: EncoderPool) -> None:
    picture, sound = np.zeros((360, 320), np.uint8), np.zeros((1, 1920), np.float32)
    with opened(pool, Pieces()) as muxer:
        units = [muxer.put(Frame(k, Fraction(k, 25), picture, sound), k == 2, more=k < 3) for k in range(4)]
    assert [[(unit.index, unit.keyframe) for unit in made] for made in units] == [
        [],
        [],
        [],
        [(0, True), (1, False), (2, True), (3, False)],
    ]
    assert all(unit.data.startswith(b"\0\0\0\1") for unit in units[3])


def test_frames_beside_the_shared_memory_are_sent(pool: EncoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.frames, "shared", lambda frame: frame)
    pieces = Pieces()
    assert stream(opened(pool, pieces), pieces) == here()


@pytest.mark.parametrize("together", [1, 5], ids=str)
@pytest.mark.parametrize("when", [{0}, {1}, {7, 8}, {20, 40}, {33}, {FRAMES}], ids=str)
def test_a_stream_loses_nothing_where_its_process_is_killed(pool: EncoderPool, when: set[int], together: int) -> None:
    pieces = Pieces()
    data = stream(opened(pool, pieces), pieces, lambda k: kill_all(pool) if k in when else None, together)
    expected = here()
    assert [pts for pts, _ in times(data, "video")] == [pts for pts, _ in times(expected, "video")]
    assert times(data, "audio") == times(expected, "audio")
    assert np.abs(sound(data) - sound(expected)).max() < 1e-3, "no click where the other process goes on"
    assert data.count(b"moov") == 1
    with av.open(io.BytesIO(data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    keyframes = {pts for pts, keyframe in times(data, "video") if keyframe}
    assert keyframes >= {0, 33 * 512}
    latest = max((pts // 512 for pts in keyframes if pts // 512 <= max(when)), default=0)
    assert max(when) - latest <= 25, "it goes on with a keyframe that is no later than the next one would be"


@pytest.mark.parametrize("together", [1, 5], ids=str)
def test_a_session_leaves_a_crowded_process_for_one_with_fewer(pool: EncoderPool, together: int) -> None:
    until(lambda: pool.settled and len(pool.pids) == 2, "both have started")
    pieces, expected = Pieces(), here()
    muxer = opened(pool, pieces)
    crowded = muxer._process
    assert crowded
    (other,) = {*pool._processes} - {crowded}
    other.sessions += 1

    def crowd(k: int) -> None:
        if k in (20, 30):
            assert muxer._process is crowded, "one more would be as many there"
            crowded.sessions += 1

    data = stream(muxer, pieces, crowd, together)
    assert (crowded.sessions, other.sessions) == (2, 1), "it has ended in the other one"
    assert [pts for pts, _ in times(data, "video")] == [pts for pts, _ in times(expected, "video")]
    keyframes = {pts // 512 for pts, keyframe in times(data, "video") if keyframe}
    (first,) = keyframes - {0, 25, 33, 58}
    assert 30 <= first <= 30 + together, "a keyframe, once what was before it is in fragments"
    assert times(data, "audio") == times(expected, "audio")
    assert np.abs(sound(data) - sound(expected)).max() < 1e-3


def test_a_process_that_ends_before_a_session_has_begun_is_replaced(pool: EncoderPool) -> None:
    until(lambda: pool.settled, "they have started")
    process, pieces = pool.acquire(), Pieces()
    assert process
    process.kill()
    until(lambda: not process.alive, "it is gone")
    opening = Opening("mp4", PICTURE, 1, OPTIONS, BEGINNING)
    assert stream(RemoteMuxer(pool, process, pieces, opening, Timings()), pieces) == here()


def test_a_process_that_hangs_is_killed(pool: EncoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_process, "STALL_TIMEOUT_S", 2.0)
    until(lambda: pool.settled, "they have started")
    hung = pool.pids

    def stop(k: int) -> None:
        if k == 30:
            for pid in hung:
                with suppress(ProcessLookupError):  # it was slow, and is gone already
                    os.kill(pid, signal.SIGSTOP)

    pieces = Pieces()
    data = stream(opened(pool, pieces), pieces, stop)
    assert [pts for pts, _ in times(data, "video")] == [k * 512 for k in range(FRAMES)]
    until(lambda: not set(hung) & set(pool.pids), "it is gone")


def test_a_process_that_starts_slowly_does_not_hang(pool: EncoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_process, "STALL_TIMEOUT_S", 4.0)
    monkeypatch.setattr(encoder_process, "COMMAND", starting_slowly("musetalk_runtime.output.processes.main", 6))
    until(lambda: pool.settled, "they have started")
    started: list[int] = []
    wait = pool.wait
    monkeypatch.setattr(pool, "wait", lambda: (started.append((taken := wait()).pid), taken)[1])

    def kill(k: int) -> None:
        if k == 5:
            kill_all(pool)
            until(lambda: not pool.pids, "they are gone")

    pieces = Pieces()
    data = stream(opened(pool, pieces), pieces, kill)
    assert [pts for pts, _ in times(data, "video")] == [k * 512 for k in range(FRAMES)]
    assert len(started) == 1, "the first one that started went on"


def test_a_process_that_nobody_asked_for_long_whether_it_has_started_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with EncoderPool(1) as pool:
        pool.prepare()
        (process,) = pool._processes
        assert select.select([process._control], [], [], 60)[0], "it has started"
        monkeypatch.setattr(encoder_process, "START_TIMEOUT_S", 0.0)
        assert pool.acquire() is process


def test_a_process_that_does_not_start_in_time_has_ended(pool: EncoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_process, "START_TIMEOUT_S", 0.0)
    monkeypatch.setattr(encoder_process, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    with EncoderProcess(pool.frames) as process:
        assert not process.alive


def test_a_process_that_is_killed_with_a_session_that_it_has_not_taken_has_ended(
    pool: EncoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_process, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    with EncoderProcess(pool.frames) as process, process.connect():
        os.kill(process.pid, signal.SIGKILL)
        select.select([process._control], [], [], 60)
        assert not process.ready
        until(lambda: not process.alive, "it is gone")


def test_a_pool_that_is_prepared_is_not_given_back_at_once() -> None:
    with EncoderPool(1) as pool:
        pool._used_at -= 2 * encoder_pool.RELEASE_AFTER_S
        pool.prepare()
        pool.maintain()
        assert len(pool.pids) == 1


def test_what_cannot_be_encoded_fails_alone(pool: EncoderPool) -> None:
    pieces = Pieces()
    with opened(pool, pieces) as other:
        with pytest.raises(MachineError, match="cannot encode 20000x64"):
            opened(pool, Pieces(), Picture(20_000, 64, Fraction(25)))
        before = pool.pids
        other.put(Frame(0, Fraction(0), np.zeros((360, 320), np.uint8), np.zeros((1, 1920), np.float32)))
        assert pool.pids == before


ENDS_AT_ONCE = "raise SystemExit(1)"
ENDS_WITH_ITS_FIRST_SESSION = """
import socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
control.send(b"r")
control.recv(1)
"""


@pytest.mark.parametrize("code", [ENDS_AT_ONCE, ENDS_WITH_ITS_FIRST_SESSION], ids=["at once", "with its session"])
def test_where_every_process_ends_a_session_fails_and_holds_nothing(
    pool: EncoderPool, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    until(lambda: pool.settled, "they have started")
    used: list[EncoderProcess] = []
    wait = pool.wait
    monkeypatch.setattr(pool, "wait", lambda: (used.append(wait()), used[-1])[1])
    monkeypatch.setattr(encoder_pool, "START_TIMEOUT_S", 1.0)
    monkeypatch.setattr(encoder_process, "COMMAND", (sys.executable, "-c", code))
    process = pool.acquire()
    assert process
    kill_all(pool)
    with pytest.raises(MachineError, match="encoder process"):
        RemoteMuxer(pool, process, Pieces(), Opening("mp4", PICTURE, 1, OPTIONS, BEGINNING), Timings())
    assert [one.sessions for one in [process, *used]] == [0] * (1 + len(used))


def test_a_session_waits_for_no_process_to_start() -> None:
    with EncoderPool(2) as pool:
        muxer = open_muxer(pool, Pieces(), "mp4", PICTURE, 1, OPTIONS, Timings())
        with muxer:
            assert isinstance(muxer, Muxer)
        until(lambda: pool.settled and pool.pids, "one has started")
        with opened(pool, Pieces()):
            assert len(pool.pids) >= 1


def test_sessions_that_come_at_once_are_spread_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with EncoderPool(6) as pool:
        pool.prepare()
        until(lambda: pool.settled, "one has started")
        monkeypatch.setattr(encoder_process, "COMMAND", starting_slowly("musetalk_runtime.output.processes.main", 60))
        ready = pool.wait().pid
        taken = Counter(pool.wait().pid for _ in range(13))
        assert taken[ready] == 8, "and the first: more would have to wait for each other"
        assert sorted(taken.values()) == [1, 1, 1, 1, 1, 8]


def test_a_pool_keeps_processes_that_nobody_uses() -> None:
    with EncoderPool(3) as pool:
        assert pool.keep(2)
        kept = pool.pids
        assert pool.settled
        assert len(kept) == 2
        pool.release(pool.wait())
        until(lambda: pool.settled and len(pool.pids) == 3, "one more has started")
        pool._used_at -= 2 * encoder_pool.RELEASE_AFTER_S
        pool.maintain()
        assert pool.pids == kept
        os.kill(kept[0], signal.SIGKILL)
        until(lambda: (pool.maintain(), pool.settled and len(pool.pids) == 2)[1], "it is replaced")


def test_a_pool_keeps_none_where_none_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_process, "COMMAND", (sys.executable, "-c", ENDS_AT_ONCE))
    with EncoderPool(3) as pool:
        assert not pool.keep(2)
        pool.maintain()
        assert not pool._processes


def test_sessions_go_to_the_process_with_the_fewest(pool: EncoderPool) -> None:
    first = pool.acquire()
    until(lambda: pool.settled and len(pool.pids) == 2, "another one is ready")
    second, third = pool.acquire(), pool.acquire()
    assert first
    assert second
    assert third
    assert (first.sessions, second.sessions) in [(2, 1), (1, 2)]
    assert len(pool.pids) == 2


def test_nothing_is_left_of_ended_processes(pool: EncoderPool) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    counts = []
    for _ in range(4):
        pieces = Pieces()
        stream(opened(pool, pieces), pieces, lambda k: kill_all(pool) if k == 5 else None)
        until(lambda: pool.settled and len(pool.pids) == 2, "both have started")
        counts.append(descriptors())
    assert counts[-1] == counts[0]


def test_shared_memory_is_used_again_and_given_back() -> None:
    with shared_frames.SharedFrames() as frames:
        kept = frames.new((360, 320))
        kept[:] = 7
        for _ in range(100):
            frame = frames.new((360, 320))
            frame[:] = 1
        held = os.fstat(frames.descriptor).st_blocks * 512
        assert held <= 4 * frame.nbytes
        assert (kept == 7).all()
        frames.trim()
        assert os.fstat(frames.descriptor).st_blocks * 512 == held, "frames are in it"
        del frame, kept
        frames.trim()
        assert os.fstat(frames.descriptor).st_blocks == 0
        again = frames.new((360, 320))
        assert frames.offset(again) == 0
        assert frames.offset(np.zeros((360, 320), np.uint8)) is None


def test_a_full_shared_memory_gives_memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_frames, "LARGEST", shared_frames.SMALLEST)
    with shared_frames.SharedFrames() as frames:
        taken = [frames.new((8192, 4096)) for _ in range(3)]
        assert [frames.offset(frame) is not None for frame in taken] == [True, True, False]
        del taken


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from musetalk_runtime.output.processes.encoder_pool import EncoderPool\n"
        "pool = EncoderPool(1)\npool.wait()\nprint(*pool.pids, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended", 10)
