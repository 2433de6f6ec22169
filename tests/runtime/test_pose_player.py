"""Which frame of which clip is shown when: switches at similar frames, clips that play once, and their return."""

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from helpers.avatars import make_bundle
from helpers.poses import ALIKE, IDLE, NOD, WAVE, make_posed_avatar
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.avatar.pose_player import FADE_S, ONCE_S, SEARCH_S, SPARE, PosePlayer, Shown
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.demo import AVATAR

FPS = Fraction(25)
FADE, SEARCH = round(FADE_S * FPS), round(SEARCH_S * FPS)


@pytest.fixture(scope="module")
def posed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Avatar]:
    folder = tmp_path_factory.mktemp("poses")
    with Avatar.open(make_posed_avatar(make_bundle(folder / "bundle"), folder)) as avatar:
        yield avatar


def clip_of(avatar: Avatar, frame: int | None) -> str | None:
    """The name of the clip that `frame` is of."""
    if frame is None:
        return None
    return next(clip.name for clip in avatar.clips if clip.first <= frame < clip.first + clip.count)


def played(avatar: Avatar, player: PosePlayer, count: int, first: int = 0) -> list[tuple[str | None, str | None]]:
    """The clips that are shown, and that fade in, in `count` frames."""
    shown = [player.shown(k) for k in range(first, first + count)]
    assert all(frame.into is None or 0 < frame.share < 1 for frame in shown)
    return [(clip_of(avatar, frame.frame), clip_of(avatar, frame.into)) for frame in shown]


def test_the_first_clip_plays_forth_and_back_until_another_is_asked_for(posed: Avatar) -> None:
    for rate in (FPS, Fraction(20), Fraction(30), Fraction(30000, 1001)):
        player = PosePlayer(posed, rate)
        assert [player.shown(k) for k in range(100)] == [Shown(posed.index_at(k, rate)) for k in range(100)]
    assert (player.names, player.pose) == (("idle", "nod", "wave"), "idle")


def test_it_goes_over_at_the_most_similar_frames_with_shares_that_grow_evenly(posed: Avatar) -> None:
    player = PosePlayer(posed, FPS)
    player.ask("wave", repeat=True)
    shown = [player.shown(k) for k in range(SEARCH + FADE + 2)]
    fade = [frame for frame in shown if frame.into is not None]
    assert [frame.share for frame in fade] == pytest.approx([k / (FADE + 1) for k in range(1, FADE + 1)])
    wave = posed.clips[2].first
    alike = [(frame.frame, frame.into) for frame in fade]
    assert (ALIKE[1], wave + ALIKE[0]) in alike  # the one moment at which both show the same is in the crossfade
    pixels = [np.abs(posed.frame(a).astype(int) - posed.frame(b or 0)).mean() for a, b in alike]
    assert max(pixels) < 4
    after = shown[shown.index(fade[-1]) + 1]
    assert (after.into, after.frame) == (None, (fade[-1].into or 0) + 1)  # it plays on


def test_a_clip_plays_once_from_near_its_beginning_and_the_first_one_again(posed: Avatar) -> None:
    switches: list[tuple[str, float]] = []
    player = PosePlayer(posed, FPS, lambda pose, at: switches.append((pose, at)))
    player.ask("nod", at=1.0)
    order = played(posed, player, 120)
    assert order[:25] == [("idle", None)] * 25
    alone = [k for k, shown in enumerate(order) if shown == ("nod", None)]
    assert alone == list(range(alone[0], alone[-1] + 1))
    assert order[alone[0] - FADE : alone[0]] == [("idle", "nod")] * FADE
    assert order[alone[-1] + 1 : alone[-1] + 1 + FADE] == [("nod", "idle")] * FADE
    assert set(order[alone[-1] + 1 + FADE :]) == {("idle", None)}
    begin, end = switches
    assert (begin[0], end[0]) == ("nod", "idle")
    assert 1.0 <= begin[1] <= 1.0 + SEARCH_S
    whole = NOD / 25 - FADE_S  # from the beginning of one crossfade to that of the other
    assert whole - 2 * SPARE * NOD / 25 <= end[1] - begin[1] <= whole
    assert player.pose == "idle"


def test_a_clip_that_repeats_plays_on_until_another_is_asked_for(posed: Avatar) -> None:
    player = PosePlayer(posed, FPS)
    player.ask("nod", repeat=True)
    assert played(posed, player, 400)[-300:] == [("nod", None)] * 300
    player.ask("nod", repeat=True)
    assert played(posed, player, 100, 400) == [("nod", None)] * 100
    player.ask("idle")
    assert played(posed, player, 100, 500)[-50:] == [("idle", None)] * 50


def test_of_several_wishes_the_latest_counts_and_none_breaks_a_crossfade(posed: Avatar) -> None:
    switches: list[str] = []
    player = PosePlayer(posed, FPS, lambda pose, _: switches.append(pose))
    player.ask("nod")
    player.ask("wave")
    before = len([order for order in played(posed, player, SEARCH + 2) if order[1]])
    assert switches == ["wave"]
    player.ask("nod", repeat=True)  # during the crossfade
    order = played(posed, player, 60, SEARCH + 2)
    assert order[: FADE - before] == [("idle", "wave")] * (FADE - before)
    assert switches == ["wave", "nod"]
    assert order[-1] == ("nod", None)


def test_asking_again_and_again_does_not_put_it_off(posed: Avatar) -> None:
    once, often = PosePlayer(posed, FPS), PosePlayer(posed, FPS)
    once.ask("wave", at=0.4)
    expected = [once.shown(k) for k in range(10 + SEARCH + 1)]
    begins = next(k for k, one in enumerate(expected) if one.into is not None)
    found = []
    for k in range(begins + 1):
        often.ask("wave", at=0.4)
        found.append(often.shown(k))
    assert found == expected[: begins + 1]


def test_asking_again_for_what_plays_once_plays_it_again_from_its_beginning(posed: Avatar) -> None:
    player = PosePlayer(posed, FPS)
    player.ask("wave")
    played(posed, player, 40)
    player.ask("wave")
    again = [shown for shown in map(player.shown, range(40, 80)) if shown.into is not None]
    assert {clip_of(posed, shown.into) for shown in again} == {"wave"}
    assert min(shown.into or 0 for shown in again) - posed.clips[2].first <= WAVE * SPARE


def test_a_photo_that_is_shown_once_is_shown_for_a_second(posed: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    from musetalk_runtime.avatar.clips import Clip

    monkeypatch.setattr(posed, "clips", (Clip("idle", 0, IDLE), Clip("look", IDLE, 1)))
    player = PosePlayer(posed, FPS)
    player.ask("look")
    order = played(posed, player, 100)
    assert len([shown for shown in order if "look" in shown]) >= ONCE_S * 25 - SEARCH
    assert order[-1] == ("idle", None)


def test_what_is_asked_for_is_bounded_and_named(posed: Avatar) -> None:
    player = PosePlayer(posed, FPS)
    with pytest.raises(InvalidArgument, match="no pose 'smile': expected one of idle, nod, wave"):
        player.ask("smile")
    for _ in range(256):
        player.ask("nod", at=1e9)
    with pytest.raises(InvalidArgument, match="wait already"):
        player.ask("nod")
    assert set(played(posed, player, 50)) == {("idle", None)}


def test_any_thread_may_ask(posed: Avatar) -> None:
    player = PosePlayer(posed, FPS)
    threads = [threading.Thread(target=player.ask, args=(name,)) for name in ("nod", "wave") * 20]
    for thread in threads:
        thread.start()
    order = played(posed, player, 300)
    for thread in threads:
        thread.join()
    assert {clip for clip, _ in order} >= {"idle"}


def test_an_avatar_of_old_has_one_pose() -> None:
    with Avatar.open(AVATAR) as avatar:
        assert avatar.poses == ("idle",)
        player = PosePlayer(avatar, Fraction(30))
        player.ask("idle")
        player.ask("idle", repeat=True)
        assert [player.shown(k).frame for k in range(300)] == [avatar.index_at(k, Fraction(30)) for k in range(300)]
