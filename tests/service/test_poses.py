"""Poses of a session, over a real socket and in a real browser."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from helpers.browser import BROWSER, browsing
from helpers.media import voice
from helpers.service_client import Client, Viewer, asking_by_token, end_sessions, serving, until
from helpers.wav_files import wav
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.avatar.pose_player import FADE_S
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session import pace
from musetalk_runtime.service.settings import Settings

POSES = ["idle", "nod", "wave"]


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path, posed: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as plain, Avatar.open(posed) as several:
        yield Service(b, {"one": several, "plain": plain}, Settings(sessions=4))


@pytest.fixture
def client(server: Any, service: Service) -> Iterator[Client]:
    yield Client(server.port)
    end_sessions(service)


def test_avatars_and_sessions_tell_their_poses(client: Client) -> None:
    found = {answer["name"]: answer["poses"] for answer in client.ask("GET", "/v1/avatars")[1]}
    assert found == {"one": POSES, "plain": ["idle"]}
    session = client.ask("GET", client.begin())[1]
    assert (session["pose"], session["poses"]) == ("idle", POSES)


def test_a_pose_is_played_once_while_it_speaks_and_its_beginning_and_end_are_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture goes over to it and back without a jump, in what viewers get."""
    monkeypatch.setattr(pace, "LATE_SECONDS", 1000)  # no picture is repeated, however busy this machine is
    path = client.begin()
    events = client.events(path)
    next(events)
    viewer = Viewer(client, path, whole=True)
    speech = voice(6.0).astype("<i2").tobytes()
    with client.request("POST", f"{path}/audio", wav(speech)) as answer:
        assert answer.status < 300
    assert client.ask("POST", f"{path}/pose", {"name": "nod"}) == (202, {"pose": "idle"})
    told = []
    for name, content in events:
        if name == "pose":
            told.append(content)
        if len(told) == 2:
            break
    assert [content["pose"] for content in told] == ["nod", "idle"]
    begin, end = (content["at"] for content in told)
    assert 0.4 <= end - begin <= 1.2  # its length, without a crossfade and what may be left out
    until(lambda: client.ask("GET", path)[1]["generated"] > end + 1, "it is idle again")
    assert client.ask("DELETE", path)[0] == 204
    viewer.join(60)
    with av.open(io.BytesIO(viewer.init + viewer.data)) as container:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    levels = [frame[:, :120].mean() for frame in frames]
    shown, own = levels[round((begin + end) / 2 * 25) + 4], levels[: round(begin * 25)]
    assert shown < 0.85 * min(own)  # "nod" is darker
    assert levels[round(end * 25) + 10] > 0.9 * min(own)
    steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    alone = max(steps[: round(begin * 25)])
    assert max(steps) <= alone + (max(own) - shown) / (FADE_S * 25) < (min(own) - shown) / 2  # the last: a cut


def test_a_pose_that_repeats_plays_until_another_is_asked_for(client: Client, service: Service) -> None:
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    client.ask("POST", f"{path}/pose", {"name": "wave", "repeat": True})
    until(lambda: session.poses.pose == "wave", "it waves")
    frames = session.frames
    until(lambda: session.frames > frames + 120, "it goes on")
    assert client.ask("GET", path)[1]["pose"] == "wave"
    client.ask("POST", f"{path}/pose", {"name": "idle"})
    until(lambda: session.poses.pose == "idle", "it stops")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "smile"}, 404, "unknown_pose"),
        ({"name": ""}, 404, "unknown_pose"),
        ({"name": "x" * 65}, 422, "invalid_request"),
        ({"name": ["nod"]}, 422, "invalid_request"),
        ({"name": "nod", "repeat": "for ever"}, 422, "invalid_request"),
        ({"name": "nod", "speed": 2}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
    ],
)
def test_what_is_no_pose_is_refused(client: Client, body: dict[str, Any], status: int, code: str) -> None:
    found, answer = client.ask("POST", f"{client.begin()}/pose", body)
    assert (found, answer["error"]["code"]) == (status, code)


def test_more_wishes_than_are_kept_are_refused(client: Client, service: Service) -> None:
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    for _ in range(256):
        session.poses.ask("nod", at=1e6)
    assert client.ask("POST", f"{path}/pose", {"name": "nod"})[0] == 422


def test_a_pose_wants_the_sessions_token(service: Service, server: Any, tmp_path: Path) -> None:
    del server
    with asking_by_token(service, tmp_path) as client:
        path = client.begin()
        assert client.ask("POST", f"{path}/pose", {"name": "nod"})[0] == 202
        assert Client(client.port).ask("POST", f"{path}/pose", {"name": "nod"})[0] == 401
        client.ask("DELETE", path)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_has_a_button_for_each_pose(bundle: Path, avatar: Path, posed: Path, tmp_path: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as plain, Avatar.open(posed) as several:
        service = Service(b, {"one": several, "plain": plain}, Settings(sessions=1))
        with serving(service) as running, browsing(f"http://127.0.0.1:{running.port}/", tmp_path) as page:
            assert page.run("document.getElementById('poses').hidden")
            page.click("play")
            page.until("!document.getElementById('poses').hidden")
            buttons = "[...document.querySelectorAll('#poses button')]"
            pressed = f"{buttons}.filter((one) => one.ariaPressed === 'true').map((one) => one.textContent).join()"
            assert page.run(f"{buttons}.map((one) => one.textContent)") == POSES
            assert page.run(pressed) == "idle"
            page.run(f"""window.seen = ["idle"];
                new MutationObserver(() => seen.at(-1) === {pressed} || seen.push({pressed})).observe(
                    document.getElementById("poses"), {{ subtree: true, attributeFilter: ["aria-pressed"] }});
                {buttons}[1].click(); undefined""")
            page.until("seen.length > 2")
            assert page.run("seen") == ["idle", "nod", "idle"]
            page.click("end")
            page.until("document.getElementById('poses').hidden")
            page.run("document.querySelectorAll('#avatars input')[1].click(); undefined")
            page.click("play")
            page.until("v.currentTime > 0.5")
            assert page.run("document.getElementById('poses').hidden")
            assert page.run("problems") == []
