"""Avatars of several clips: how they are prepared, and how a session goes over from one to another."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.avatars import make_bundle, solid, write_video
from helpers.media import write_wav
from helpers.poses import IDLE, NOD, WAVE
from helpers.processes import EDGE
from musetalk_runtime import Avatar, Bundle, InvalidArgument, InvalidMedia, MuseTalkEdgeError, Session
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.avatar.pose_player import FADE_S, PosePlayer
from musetalk_runtime.backends.crossfade import CrossfadeRenderer, own_frame
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.service.scheduling.repeating_renderer import RepeatingRenderer
from musetalk_runtime.session_hooks import SessionHooks
from musetalk_runtime.storage.folder import MANIFEST

OPTIONS = PrepareOptions(face_box=(8, 8, 40, 40))
FADE = round(FADE_S * 25)  # frames of a crossfade
NO_SPEECH = SpeechFrame(0, np.empty((0, 0), np.float32), 0.0, np.empty((1, 0), np.float32))


@pytest.fixture(scope="module")
def pooling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with Bundle.open(make_bundle(tmp_path_factory.mktemp("bundle") / "pooling")) as opened:
        yield opened


@pytest.fixture
def opened(bundle: Path, posed: Path) -> Iterator[tuple[Bundle, Avatar]]:
    with Bundle.open(bundle) as b, Avatar.open(posed) as a:
        yield b, a


def clips_of(folder: Path, **sizes: tuple[int, int, int]) -> dict[str, Path]:
    """Files of one colour each, of so many frames, and so wide and high."""
    return {
        name: write_video(folder / f"{name}.mp4", [solid((30 * k + 60, 120, 90), width, height)] * frames)
        for k, (name, (frames, width, height)) in enumerate(sizes.items())
    }


def test_clips_lie_one_after_another_each_with_its_name(posed: Path) -> None:
    with Avatar.open(posed) as avatar:
        assert avatar.poses == ("idle", "nod", "wave")
        assert [(clip.first, clip.count) for clip in avatar.clips] == [(0, IDLE), (IDLE, NOD), (IDLE + NOD, WAVE)]
        assert len(avatar) == IDLE + NOD + WAVE
        assert avatar.frame(IDLE)[:240].mean() < 0.8 * avatar.frame(0)[:240].mean()  # "nod" is darker
        assert [avatar.index_at(k, Fraction(25)) for k in (0, IDLE - 1, IDLE, 2 * IDLE - 2)] == [0, 11, 10, 0]
    assert json.loads((posed / MANIFEST).read_text())["schema"] == 2


def test_one_clip_is_stored_as_before(pooling: Bundle, tmp_path: Path) -> None:
    video = clips_of(tmp_path, idle=(3, 64, 48))["idle"]
    manifests = []
    for clips in (video, {"idle": video}):
        prepare_avatar(clips, pooling, tmp_path / "avatar", OPTIONS)
        manifests.append(json.loads((tmp_path / "avatar" / MANIFEST).read_text()))
    assert manifests[0] == manifests[1]
    assert manifests[0]["schema"] == 1
    assert "clips" not in manifests[0]
    assert sorted(manifests[0]["files"]) == ["boxes.npy", "frames.mp4", "has_face.npy", "latents.npy", "masks.npy"]


def test_a_lone_clip_keeps_a_name_of_its_own(pooling: Bundle, tmp_path: Path) -> None:
    prepare_avatar({"calm": clips_of(tmp_path, calm=(3, 64, 48))["calm"]}, pooling, tmp_path / "avatar", OPTIONS)
    with Avatar.open(tmp_path / "avatar") as avatar:
        assert avatar.poses == ("calm",)


def test_all_clips_get_the_rate_of_the_first(pooling: Bundle, tmp_path: Path) -> None:
    slow = write_video(tmp_path / "slow.mp4", [solid((9, 9, 9))] * 10, rate=Fraction(10))
    fast = write_video(tmp_path / "fast.mp4", [solid((99, 9, 9))] * 30, rate=Fraction(30))
    report = prepare_avatar({"idle": slow, "nod": fast}, pooling, tmp_path / "avatar", OPTIONS)
    assert (report.fps, dict(report.poses)) == (Fraction(10), {"idle": 10, "nod": 10})


def test_a_clip_of_another_size_is_refused_and_leaves_nothing(pooling: Bundle, tmp_path: Path) -> None:
    clips = clips_of(tmp_path, idle=(3, 64, 48), nod=(3, 64, 50))
    with pytest.raises(InvalidMedia, match=r"nod\.mp4: 64x50 pixels, the first clip has 64x48"):
        prepare_avatar(clips, pooling, tmp_path / "avatar", OPTIONS)
    assert sorted(tmp_path.iterdir()) == sorted(clips.values())


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 33, "nod\n", "ä"])
def test_a_name_out_of_form_is_refused(pooling: Bundle, tmp_path: Path, name: str) -> None:
    video = clips_of(tmp_path, idle=(3, 64, 48))["idle"]
    with pytest.raises(InvalidArgument, match="expected a letter or digit"):
        prepare_avatar({"idle": video, name: video}, pooling, tmp_path / "avatar", OPTIONS)


def test_the_command_takes_clips_by_name(pooling: Bundle, tmp_path: Path) -> None:
    clips = clips_of(tmp_path, idle=(3, 64, 48), nod=(4, 64, 48))
    odd = clips["nod"].rename(tmp_path / "a=b.mp4")
    box = ["--face-box=8,8,40,40", "-b", str(pooling.path), "-o", str(tmp_path / "avatar")]

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*EDGE, "prepare", *map(str, arguments), *box], capture_output=True, text=True, check=False
        )

    made = run(clips["idle"], f"nod={odd}", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["poses"] == {"idle": 3, "nod": 4}
    assert "; poses idle, nod" in made.stderr
    assert run(odd).returncode == 0  # a file with = in its name
    for arguments, message in (
        ((clips["idle"], odd), "only the first clip needs no name"),
        ((clips["idle"], f"idle={odd}"), "two clips are named idle"),
        ((f"x={clips['idle']}", f"x={odd}"), "two clips are named x"),
        ((clips["idle"], f"n d={odd}"), "a clip's name is 'n d'"),
        ((f"x={tmp_path / 'none.mp4'}",), "none.mp4: no such file"),
    ):
        refused = run(*arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert message in refused.stderr


def test_a_stream_goes_over_to_poses_at_their_seconds(bundle: Path, posed: Path, tmp_path: Path) -> None:
    talk = tmp_path / "talk.mp4"
    write_wav(tmp_path / "speech.wav", np.zeros(3 * 16_000))
    files = ["-b", bundle, "-a", posed, "--audio", tmp_path / "speech.wav", "-o", talk, "--fps", "25"]

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*EDGE, "stream", *map(str, files), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = run("--pose", "nod@0.2,repeat", "--pose", "idle@1.8")
    assert made.returncode == 0, made.stderr
    with av.open(str(talk)) as container:
        bright = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    assert min(bright[:5]) > 1.2 * max(bright[25:45])  # "nod" is darker
    assert min(bright[68:]) > 1.2 * max(bright[25:45])
    for pose, message in (
        ("nod", "expected NAME@SECONDS"),
        ("nod@x", "expected NAME@"),
        ("smile@1", "no pose 'smile'"),
    ):
        refused = run("--pose", pose)
        assert refused.returncode == 2
        assert message in refused.stderr


def player_of(avatar: Avatar, *wishes: tuple[str, float]) -> PosePlayer:
    """Goes over to clips, each at its second, and plays the last on and on."""
    player = PosePlayer(avatar, Fraction(25))
    for name, at in wishes:
        player.ask(name, repeat=(name, at) == wishes[-1], at=at)
    return player


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The mean absolute difference of two frames."""
    return float(np.abs(a.astype(np.int16) - b).mean())


def test_no_jump_at_a_switch_is_larger_than_the_crossfade_allows(
    opened: tuple[Bundle, Avatar], speech: Callable[[float], Path]
) -> None:
    """While it speaks: the two that fade move as they do by themselves, and the share grows by an even step."""
    _, avatar = opened
    wishes = [("nod", 0.5), ("wave", 2.5)]
    hooks = SessionHooks(poses=player_of(avatar, *wishes))
    with Session(*opened, speech(4.0), fps=25, direction=hooks) as session:
        jumps = [apart(a.nv12, b.nv12) for a, b in pairwise(session.frames())]
    player = player_of(avatar, *wishes)
    shown = [player.shown(k) for k in range(100)]
    fades = [(avatar.frame(one.frame), avatar.frame(one.into)) for one in shown if one.into is not None]
    assert len(fades) == 3 * FADE
    cut = max(apart(*pair) for pair in fades)
    alone = max(jump for jump, pair in zip(jumps, pairwise(shown), strict=True) if not any(one.into for one in pair))
    assert max(jumps) <= alone + cut / (FADE + 1)
    assert cut > 2 * (alone + cut / (FADE + 1))  # so that a cut would be found


def test_lips_that_are_closed_need_no_engine_in_a_crossfade(opened: tuple[Bundle, Avatar]) -> None:
    _, avatar = opened
    with Session(*opened, [bytes(2 * 32_000)], fps=25) as session:
        session.pose("wave", repeat=True)
        frames = [frame.nv12 for frame in session.frames()]
    assert "generate" not in session.report()["stages"]
    own = [avatar.frame(index) for index in range(len(avatar))]
    mixed = [k for k, frame in enumerate(frames) if not any(np.array_equal(frame, one) for one in own)]
    assert mixed == list(range(mixed[0], mixed[0] + len(mixed)))
    assert FADE - 1 <= len(mixed) <= FADE  # one pair of frames is alike, perhaps to the last bit


def test_a_mouth_that_is_closed_late_is_closed_in_both_frames(
    opened: tuple[Bundle, Avatar], speech: Callable[[float], Path]
) -> None:
    """As by an interruption in a crossfade, some of whose frames are rendered already."""
    _, avatar = opened
    player = player_of(avatar, ("nod", 0.0))
    shown = [player.shown(k) for k in range(50)]
    closed_at = next(k for k, one in enumerate(shown) if one.into is not None) + 2
    closed = threading.Event()
    hooks = SessionHooks(mouth=lambda _: float(not closed.is_set()), poses=player_of(avatar, ("nod", 0.0)))
    own = []
    with Session(*opened, speech(2.0), fps=25, direction=hooks) as session:
        for frame, one in zip(session.frames(), shown, strict=True):
            request = FrameRequest(avatar, one.frame, NO_SPEECH, one.into, one.share)
            own.append(np.array_equal(frame.nv12, own_frame(request)))
            if frame.index == closed_at:
                closed.set()
    assert not any(own[3:closed_at])
    assert all(own[closed_at + 1 :])


def test_repeated_pictures_are_those_before_also_in_a_crossfade(
    opened: tuple[Bundle, Avatar], speech: Callable[[float], Path]
) -> None:
    bundle, _ = opened

    def made(share: Fraction) -> list[np.ndarray]:
        def renderer(avatar: Avatar, timings: object) -> RepeatingRenderer:
            plain = CrossfadeRenderer(bundle.engines.renderer(avatar, timings), bundle.engines.new_frame)  # type: ignore[arg-type]
            return RepeatingRenderer(plain, lambda: share)

        with Session(*opened, speech(2.0), fps=25, direction=SessionHooks(renderer=renderer)) as session:
            session.pose("wave", repeat=True, at=0.3)
            return [frame.nv12.copy() for frame in session.frames()]

    whole, half = made(Fraction(1)), made(Fraction(1, 2))
    differences = [np.abs(a.astype(int) - b).max() for a, b in zip(whole, half, strict=True)]
    assert max(differences[1::2]) <= 1  # batches may differ, and so the order of sums
    assert all(np.array_equal(half[k], half[k + 1]) for k in range(1, 47, 2))


def test_a_pose_that_is_not_there_is_refused(opened: tuple[Bundle, Avatar], speech: Callable[[float], Path]) -> None:
    with Session(*opened, speech(1.0)) as session, pytest.raises(MuseTalkEdgeError, match="no pose 'smile'"):
        session.pose("smile")
