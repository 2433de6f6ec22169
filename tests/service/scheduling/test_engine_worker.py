"""One worker that makes the frames of all sessions of a bundle."""

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.frame_requests import shots
from helpers.media import moving_picture, voice, write_video
from helpers.timetable import Timetable
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.mute import Mute
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.service.errors import EngineFailed
from musetalk_runtime.service.scheduling import job_queue
from musetalk_runtime.service.scheduling.engine_worker import EngineWorker, SharedRenderer
from musetalk_runtime.service.scheduling.round_robin import RoundRobinRenderer
from musetalk_runtime.session_hooks import SessionHooks


@pytest.fixture(scope="module")
def other(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another avatar of the same size, with another face box and other frames."""
    folder = tmp_path_factory.mktemp("other")
    write_video(folder / "source.mp4", [255 - moving_picture(3 * k) for k in range(6)])
    with Bundle.open(bundle) as opened:
        prepare_avatar(folder / "source.mp4", opened, folder / "pack", PrepareOptions(face_box=(20, 30, 150, 170)))
    return folder / "pack"


@pytest.fixture
def faces(avatar: Path, other: Path) -> Iterator[list[Avatar]]:
    with Avatar.open(avatar) as one, Avatar.open(other) as two:
        yield [one, two]


def speech(bundle: Bundle, index: int, weight: float = 1.0) -> SpeechFrame:
    tokens = np.random.default_rng(index).normal(size=(bundle.spec.tokens, bundle.spec.audio_width))
    return SpeechFrame(index, tokens.astype(np.float32), weight, np.zeros((1, 0), np.float32))


def alone(bundle: Bundle, face: Avatar, frames: list[SpeechFrame]) -> list[np.ndarray]:
    renderer = bundle.engines.renderer(face, Timings())
    found = [renderer.render(shots(face, [frame])).wait()[0] for frame in frames]
    renderer.close()
    return found


def check_mixed(bundle: Bundle, faces: list[Avatar]) -> list[int]:
    """Frames of two avatars, handed in at once, are those that each has alone; gives the sizes of the batches."""
    batches: list[int] = []
    spoken = [[speech(bundle, 10 * n + k, float(k != 2)) for k in range(3)] for n in range(2)]
    with EngineWorker(bundle, Timings(), batches.append) as worker:
        renderers = [worker.renderer(face, Timetable()) for face in faces]
        with worker._changed:  # so that the worker sees them together
            pending = [r.render(shots(f, s)) for r, f, s in zip(renderers, faces, spoken, strict=True)]
            assert worker.queued == 6
        found = [frames.wait() for frames in pending]
        for renderer in renderers:
            renderer.close()
            renderer.close()
    for n, face in enumerate(faces):
        for a, b in zip(found[n], alone(bundle, face, spoken[n]), strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1
    assert np.array_equal(found[1][2], faces[1].frame(faces[1].index_at(12, Fraction(25))))  # of weight 0
    return batches


def test_a_batch_holds_frames_of_several_avatars(bundle: Path, faces: list[Avatar]) -> None:
    with Bundle.open(bundle) as opened:
        assert check_mixed(opened, faces) == [4]  # the silent frames of both went by themselves


def test_a_batch_holds_frames_of_several_avatars_on_a_gpu(
    simulated: Bundle,
    faces: list[Avatar],
) -> None:
    assert check_mixed(simulated, faces) == [3, 1]


def test_renderers_take_turns_and_hold_an_avatar_all_or_none(faces: list[Avatar]) -> None:
    class Renderer:
        def __init__(self) -> None:
            self.batches, self.held, self.full, self.closed = [], 1, False, 0

        def render(self, batch: list[FrameRequest]) -> Any:
            self.batches.append(batch)

        def hold(self, _: Avatar) -> None:
            if self.full:
                raise MachineError("no room")
            self.held += 1

        def release(self, _: Avatar) -> None:
            self.held -= 1

        def close(self) -> None:
            self.closed += 1

    made = [Renderer(), Renderer(), Renderer()]
    opening = iter(made)
    renderer = RoundRobinRenderer(lambda: next(opening), 3)
    for number in range(7):
        renderer.render([number])  # type: ignore[list-item]
    assert [one.batches for one in made] == [[[0], [3], [6]], [[1], [4]], [[2], [5]]]
    renderer.hold(faces[0])
    renderer.release(faces[0])
    made[2].full = True
    with pytest.raises(MachineError, match="no room"):
        renderer.hold(faces[0])
    assert [lane.held for lane in made] == [1, 1, 1]
    renderer.close()
    assert [one.closed for one in made] == [1, 1, 1]
    few = [Renderer(), Renderer()]
    with pytest.raises(StopIteration):
        RoundRobinRenderer(iter(few).__next__, 3)
    assert [one.closed for one in few] == [1, 1]


@pytest.mark.slow
def test_sessions_side_by_side_have_the_frames_of_a_lone_one(
    bundle: Path, faces: list[Avatar], speech: Callable[[float], Path]
) -> None:
    with Bundle.open(bundle) as opened:
        expected = []
        for face in faces:
            with Session(opened, face, speech(1.0), 10) as session:
                expected.append([frame.nv12 for frame in session.frames()])
        with EngineWorker(opened, Timings(), lambda _: None) as worker:
            found: list[list[Any]] = [[], [], []]

            def run(n: int) -> None:  # one of them by two threads, the others by one
                hooks = SessionHooks(renderer=lambda face, _: worker.renderer(face, Timetable()), renderer_shared=n > 0)
                with Session(opened, faces[n % 2], speech(1.0), 10, hooks) as session:
                    found[n] = list(session.frames())

            threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert not worker._users.get(None)
    for n, frames in enumerate(found):
        assert [frame.index for frame in frames] == list(range(10))
        worst = max(np.abs(f.nv12.astype(int) - e).max() for f, e in zip(frames, expected[n % 2], strict=True))
        assert worst <= 1


def test_engines_that_fail_fail_all_that_wait_and_all_that_come(bundle: Path, faces: list[Avatar]) -> None:
    with Bundle.open(bundle) as opened, EngineWorker(opened, Timings(), lambda _: None) as worker:
        renderers = [worker.renderer(face, Timetable()) for face in faces]

        def fail(_: Any) -> None:
            raise MachineError("CUDA: an illegal\nmemory access")

        worker._renderers[None].render = fail  # type: ignore[assignment]
        with worker._changed:
            pending = [r.render(shots(f, [speech(opened, 0)])) for r, f in zip(renderers, faces, strict=True)]
        for frames in pending:
            with pytest.raises(EngineFailed, match="an illegal memory access"):
                frames.wait()
        with pytest.raises(EngineFailed):
            renderers[0].render(shots(faces[0], [speech(opened, 1)]))
        with pytest.raises(EngineFailed):
            worker.renderer(faces[0], Timetable())
        for renderer in renderers:
            renderer.close()
        assert worker.error == "CUDA: an illegal memory access"


def test_a_session_that_leaves_while_its_frames_wait_for_others_ends_nothing(
    bundle: Path, faces: list[Avatar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queue, "FILL_S", 5.0)
    far = Timetable(time.monotonic() + 1000)
    with Bundle.open(bundle) as opened, EngineWorker(opened, Timings(), lambda _: None) as worker:
        leaving, staying = (worker.renderer(face, far) for face in faces)
        dropped = leaving.render(shots(faces[0], [speech(opened, 0)]))
        time.sleep(0.1)
        leaving.close()
        with pytest.raises(RuntimeError, match="closed"):
            dropped.wait()
        monkeypatch.undo()
        with worker._changed:
            worker._changed.notify_all()  # as when they have waited for long enough
        time.sleep(0.1)
        assert len(staying.render(shots(faces[1], [speech(opened, 0)])).wait()) == 1
        staying.close()


def test_closing_drops_what_waits(bundle: Path, faces: list[Avatar]) -> None:
    with Bundle.open(bundle) as opened, EngineWorker(opened, Timings(), lambda _: None) as worker:
        renderer = worker.renderer(faces[0], Timetable())
        assert isinstance(renderer, SharedRenderer)
        with worker._changed:
            pending = renderer.render(shots(faces[0], [speech(opened, k) for k in range(6)]))
            renderer.close()
            assert worker.queued == 0
        with pytest.raises(RuntimeError, match="closed"):
            pending.wait()


@pytest.mark.slow
def test_frames_under_way_are_dropped_and_times_go_on(bundle: Path, avatar: Path) -> None:
    """The mouth is closed and the sound silenced from the next frame on, whatever has been read and made already."""
    closed = [1 << 30]
    pcm = voice(1.8).astype("<i2").tobytes()
    with Bundle.open(bundle) as opened, Avatar.open(avatar) as face:
        with Session(opened, face, [pcm], 25) as session:
            whole = list(session.frames())
        direction = SessionHooks(mouth=lambda seconds: float(seconds * 25 < closed[0]))
        with Session(opened, face, [pcm], 25, direction) as session:
            frames = session.frames()
            first = [next(frames) for _ in range(20)]
            while session.waiting < 4:  # some are made
                threading.Event().wait(0.01)
            closed[0] = 20
            session.hush(1.5)
            found = [*first, *frames]
        assert [frame.pts for frame in found] == [frame.pts for frame in whole]
        own = [np.array_equal(frame.nv12, face.frame(face.index_at(frame.index, session.fps))) for frame in found]
        assert not any(own[6:17])  # in speech, by the voice
        assert all(own[20:])
    sound, wanted = (np.concatenate([frame.sound for frame in frames], axis=1) for frames in (found, whole))
    at = sum(frame.sound.shape[1] for frame in first)
    assert sound.shape == wanted.shape
    assert np.array_equal(sound[:, :at], wanted[:, :at])
    assert not sound[:, at + 960 : 72_000].any()
    assert wanted[:, at + 960 : 72_000].any()
    assert np.array_equal(sound[:, 72_000:], wanted[:, 72_000:])


def test_sound_is_silenced_once_though_it_is_asked_for_twice() -> None:
    mute, sound = Mute(), np.ones((1, 4800), np.float32)
    assert mute.pass_on(sound) is sound
    assert mute.silence(0.3) == 0.1
    faded = mute.pass_on(sound)
    assert faded[0, 0] == 1.0
    assert np.all(np.diff(faded[0, :960]) < 0)
    assert mute.silence(0.35) == 0.1
    assert not mute.pass_on(sound).any()
    rest = mute.pass_on(sound)
    assert not rest[:, :2400].any()
    assert rest[:, 2400:].all()
    assert mute.pass_on(sound) is sound
    assert mute.silence(1.0) == 0.5
