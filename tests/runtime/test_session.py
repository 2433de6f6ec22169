"""The Python API, on real artefacts."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from helpers.media import voice
from helpers.service_client import until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.core.errors import AvatarMismatch, InvalidArgument, InvalidMedia, MachineError
from musetalk_runtime.storage.folder import MANIFEST

Speech = Callable[[float], Path]


@pytest.fixture
def opened(bundle: Path, avatar: Path) -> Iterator[tuple[Bundle, Avatar]]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield b, a


def test_frames_have_exact_times_and_the_avatars_pixels_outside_the_mask(
    opened: tuple[Bundle, Avatar], speech: Speech
) -> None:
    bundle, avatar = opened
    with Session(bundle, avatar, speech(1.5), fps=21) as session:
        frames = list(session.frames())
    assert [frame.pts for frame in frames] == [Fraction(k, 21) for k in range(32)]
    assert sum(frame.sound.shape[1] for frame in frames) == 72_000
    spoken = 0
    for frame in frames:
        index = avatar.index_at(frame.index, Fraction(21))
        original = avatar.frame(index)
        changed = np.argwhere(frame.nv12[: avatar.height] != original[: avatar.height])
        spoken += len(changed) > 0
        if len(changed):
            x0, y0, x1, y1 = avatar.boxes[index]
            assert changed[:, 0].min() >= y0
            assert changed[:, 0].max() < min(y1, avatar.height)
            assert changed[:, 1].min() >= x0
            assert changed[:, 1].max() < min(x1, avatar.width)
    assert spoken >= 20
    assert frames[0].rgb().shape == (avatar.height, avatar.width, 3)


@pytest.mark.slow
def test_live_and_file_give_the_same_frames_where_the_context_is_the_same(
    opened: tuple[Bundle, Avatar], speech: Speech
) -> None:
    bundle, avatar = opened
    bundle.live_context = 30.0
    with Session(bundle, avatar, speech(2.0), fps=25) as session:
        file = list(session.frames())
    with Session(bundle, avatar, [voice(2.0).astype("<i2").tobytes()], fps=25) as session:
        live = list(session.frames())
    assert len(file) == len(live) == 50
    for a, b in zip(file, live, strict=True):
        assert np.abs(a.nv12.astype(int) - b.nv12).max() <= 1  # batches may differ, and so the order of sums


def test_bytes_are_one_piece_of_live_speech(opened: tuple[Bundle, Avatar]) -> None:
    pcm = voice(0.2).astype("<i2").tobytes()
    for given in (pcm, bytearray(pcm), memoryview(pcm), [pcm], iter([pcm[:1001], pcm[1001:]])):
        with Session(*opened, given, fps=25) as session:
            assert sum(1 for _ in session.frames()) == 5


@pytest.mark.parametrize("given", [None, 7, 0.5])
def test_what_is_no_speech_is_refused_at_once(opened: tuple[Bundle, Avatar], given: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected a file's path, PCM bytes or an iterable of them"):
        Session(*opened, given, fps=25)


@pytest.mark.parametrize("given", [["speech"], [1, 2, 3], [None], np.zeros(1600, np.int16)])
def test_what_is_no_speech_is_refused_when_it_is_heard(opened: tuple[Bundle, Avatar], given: Any) -> None:
    with (
        Session(*opened, given, fps=25) as session,
        pytest.raises(InvalidArgument, match="live speech is PCM bytes, found "),
    ):
        list(session.frames())


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_closed_early_makes_no_more_frames(bundle: Path, avatar: Path, which: int) -> None:
    def speech() -> Iterator[bytes]:
        while True:
            yield voice(0.2).astype("<i2").tobytes()

    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        with Session(b, a, speech(), fps=25) as session:
            frames = session.frames()
            next(frames)
            (b, a)[which].close()
            with pytest.raises(InvalidArgument, match="closed"):
                for _ in frames:
                    pass
        with pytest.raises(InvalidArgument, match="closed"), Session(b, a, [b"\0\0" * 1600], fps=25) as late:
            list(late.frames())


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_is_dropped_unclosed_is_told_of_and_ends_its_threads(
    opened: tuple[Bundle, Avatar], begun: bool
) -> None:
    def speech() -> Iterator[bytes]:
        while True:
            yield voice(0.2).astype("<i2").tobytes()

    before = set(threading.enumerate())
    session = Session(*opened, speech(), fps=25)
    if begun:
        next(session.frames())
    assert {thread.name for thread in threading.enumerate() if thread not in before} == {"speech", "render"}
    with pytest.warns(ResourceWarning, match="Session object at 0x[0-9a-f]+> was not closed"):
        del session
    until(lambda: set(threading.enumerate()) <= before, "its threads have ended")


def test_the_stream_is_a_whole_file(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    with Session(*opened, speech(2.0), fps="25") as session:
        data = b"".join(session.stream())
        report = session.report()
    with av.open(io.BytesIO(data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50
    assert report["frames"] == 50
    assert report["first_fragment_seconds"] > 0
    stages = {"audio_encoder", "generate", "compose", "encode_sound", "encode", "mux"}
    assert stages <= set(report["stages"])
    assert stages | {"open_audio", "open_renderer", "open_output"} <= set(report["first_ms"])
    assert not {"open_audio", "open_renderer", "open_output"} & set(report["stages"])
    assert all(ms >= 0 for ms in report["first_ms"].values())
    ends = report["first_at_ms"]
    assert ends.keys() == report["first_ms"].keys()
    in_turn = [ends[stage] for stage in ("open_audio", "audio_encoder", "generate", "compose", "encode", "mux")]
    assert in_turn == sorted(in_turn)
    assert session.first_fragment_seconds is not None
    assert ends["mux"] <= session.first_fragment_seconds * 1e3 + 0.001
    assert session.first_fragment_seconds == pytest.approx(report["first_fragment_seconds"], abs=1e-4)


def test_a_session_that_cannot_be_made_holds_nothing(
    opened: tuple[Bundle, Avatar], speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise MachineError("no renderer here")

    file = speech(2.0).resolve()
    threads = set(threading.enumerate())
    monkeypatch.setattr(opened[0].engines, "renderer", refuse)
    with pytest.raises(MachineError, match="no renderer here") as caught:
        Session(*opened, file)
    held = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert caught.tb is not None  # it holds the session's frame, so that nothing was freed by chance
    assert file not in held
    assert not set(threading.enumerate()) - threads


class Raced(threading.Event):
    """It is set by another thread just after somebody has looked the eighth time."""

    looks = 0

    def is_set(self) -> bool:
        found = super().is_set()
        self.looks += 1
        if self.looks == 8:
            self.set()
        return found


def test_a_wish_for_a_keyframe_is_kept_whenever_it_comes(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    with Session(*opened, speech(1.0), fps=25) as session:
        session._keyframe = Raced()
        data = b"".join(session.stream())
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == [0, 8]


def test_silence_is_the_avatar_itself(opened: tuple[Bundle, Avatar]) -> None:
    _, avatar = opened
    with Session(*opened, [bytes(32_000)], fps=25) as session:
        frames = list(session.frames())
    assert all(np.array_equal(frame.nv12, avatar.frame(avatar.index_at(frame.index, session.fps))) for frame in frames)
    assert "generate" not in session.report()["stages"]


def test_stop_ends_a_stream_early_and_whole(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    with Session(*opened, speech(20.0), fps=25) as session:
        data = b""
        for piece in session.stream():
            data += piece
            if session.frames_made >= 20:
                session.stop()
    with av.open(io.BytesIO(data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == session.frames_made <= 22


def test_close_ends_the_threads_whatever_they_do(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    before = set(threading.enumerate())
    session = Session(*opened, speech(20.0))
    stream = session.stream()
    next(stream)
    stream.close()
    session.close()
    session.close()
    assert not set(threading.enumerate()) - before


def test_an_error_of_the_live_source_comes_out(opened: tuple[Bundle, Avatar]) -> None:
    def microphone() -> Iterator[bytes]:
        yield bytes(6400)
        raise ConnectionResetError("the microphone went away")

    with pytest.raises(ConnectionResetError, match="went away"), Session(*opened, microphone()) as session:
        list(session.frames())
    with pytest.raises(InvalidMedia, match="before its first sample"), Session(*opened, []) as session:
        list(session.stream())


def test_a_stream_stopped_before_its_first_frame_is_empty(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    with Session(*opened, speech(2.0)) as session:
        session.stop()
        assert list(session.stream()) == []


@pytest.mark.parametrize("fps", ["fast", "0", "61", "nan", "1/0", "25.123456"])
def test_rates_out_of_range_are_refused(opened: tuple[Bundle, Avatar], speech: Speech, fps: str) -> None:
    with pytest.raises(InvalidArgument, match="fps"):
        Session(*opened, speech(2.0), fps=fps)


def test_auto_takes_the_highest_rate_with_headroom(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    bundle, avatar = opened
    for ms, rate in [(10.0, 25), (35.0, 24), (39.0, 21), (41.4, 21), (43.4, 20), (50.0, 15), (500.0, 15)]:
        bundle.batch_ms = {1: ms}
        with Session(bundle, avatar, speech(2.0), fps="auto") as session:
            assert session.fps == rate, ms


def test_an_avatar_of_another_encoder_is_refused(opened: tuple[Bundle, Avatar], speech: Speech, tmp_path: Path) -> None:
    bundle, avatar = opened
    text = (avatar.path / MANIFEST).read_text().replace(bundle.spec.encoder_id, "0" * 64)
    for file in avatar.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / MANIFEST).write_text(text)
    with Avatar.open(tmp_path) as other, pytest.raises(AvatarMismatch, match="musetalk-edge prepare"):
        Session(bundle, other, speech(2.0))


@pytest.mark.slow
def test_a_program_may_end_with_a_session_open(bundle: Path, avatar: Path, speech: Callable[[float], Path]) -> None:
    program = (
        "import sys; from musetalk_runtime import Avatar, Bundle, Session\n"
        "session = Session(Bundle.open(sys.argv[1]), Avatar.open(sys.argv[2]), sys.argv[3], fps=25)\n"
        "frames = session.frames(); next(frames); print('made', flush=True)"
    )
    command = [sys.executable, "-c", program, str(bundle), str(avatar), str(speech(8.0))]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")
