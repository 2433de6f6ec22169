"""Low-latency HLS, as its players ask for it (rfc8216bis, section 6.2.5), from a real server."""

import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from helpers.service_client import Client, HeldClock, Viewer, until
from musetalk_runtime.service.delivery.fragments import split
from musetalk_runtime.service.service import Service

PART = re.compile(r'#EXT-X-PART:DURATION=([\d.]+),URI="(\d+)\.(\d+)\.m4s"(,INDEPENDENT=YES)?')


class Player:
    """Follows preload hints and blocking reloads: ``parts`` has the bytes and seconds of each, by segment and index."""

    def __init__(self, client: Client, path: str) -> None:
        self.parts: dict[tuple[int, int], tuple[bytes, float]] = {}
        self.independent: set[tuple[int, int]] = set()
        self._client, self._folder = client, f"{path}/hls"
        self.text = self._playlist("")

    def get(self, name: str) -> bytes:
        with self._client.request("GET", f"{self._folder}/{name}") as answer:
            assert answer.status == 200, name
            data: bytes = answer.read()
            return data

    def play(self) -> None:
        """Take the hinted part, the playlist that has it, and what else was made in the meantime."""
        hinted = self.hinted
        data = {hinted: self.get(f"{hinted[0]}.{hinted[1]}.m4s")}
        self.text = self._playlist(f"?_HLS_msn={hinted[0]}&_HLS_part={hinted[1]}")
        listed = {(int(part[2]), int(part[3])): part for part in PART.finditer(self.text)}
        assert hinted in listed  # the reload was blocked until it was there
        for place in (place for place in listed if place >= hinted):
            self.parts[place] = (data.get(place) or self.get(f"{place[0]}.{place[1]}.m4s"), float(listed[place][1]))
            if listed[place][4]:
                self.independent.add(place)

    @property
    def hinted(self) -> tuple[int, int]:
        """The part that is to come: its segment and index."""
        hint = re.search(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', self.text)
        assert hint
        return int(hint[1]), int(hint[2])

    def _playlist(self, query: str) -> str:
        return self.get(f"stream.m3u8{query}").decode()


@pytest.fixture
def held(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Playback goes no further than a test lets it, and whoever waits is patient."""
    monkeypatch.setattr(service.starter, "playback_clock", lambda: HeldClock(1.2))
    monkeypatch.setattr(service, "settings", replace(service.settings, hls_wait=60.0))


@pytest.mark.usefixtures("held")
def test_a_player_gets_every_part_as_it_is_made(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    path = client.begin(fps=25)
    clock = service.sessions.get(path.rpartition("/")[2]).clock
    whole = Viewer(client, path, whole=True)
    assert client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())[0] == 202
    player = Player(client, path)
    while len(player.parts) < 9:
        segment, index = player.hinted
        clock.limit = segment - 1 + (index + 1) * 0.32 + 0.2  # a little after that part is played
        player.play()
    target = float(re.findall(r"PART-TARGET=([\d.]+)", player.text)[0])
    assert target == 0.32
    assert float(re.findall(r"PART-HOLD-BACK=([\d.]+)", player.text)[0]) >= 3 * target
    places = sorted(player.parts)
    begun = places[0][0]
    assert places == list(player.parts)
    assert player.independent == {place for place in places if place[1] == 0}
    for place, (data, seconds) in player.parts.items():
        last = (place[0], place[1] + 1) not in player.parts and place != places[-1]
        assert seconds == pytest.approx(0.04 if last else 0.32)
        assert b"moof" in data
    full = begun + 1
    content = player.get(f"{full}.m4s")
    assert content == b"".join(player.parts[full, index][0] for index in range(4))
    client.ask("DELETE", path)
    whole.join(60)
    assert b"".join(data for data, _ in player.parts.values()) in whole.data
    init, fragments = split([whole.init + whole.data])
    first = next(fragment for fragment in fragments if fragment.segment == full)
    assert init == player.get("init.mp4")
    with av.open(io.BytesIO(init + content)) as container:
        times = [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(str(round(first.start, 3))) + Fraction(k, 25) for k in range(25)]
    over = player.get(f"stream.m3u8?_HLS_msn={places[-1][0] + 1}").decode()
    assert over.endswith("#EXT-X-ENDLIST\n")
    assert "PRELOAD" not in over


@pytest.mark.usefixtures("held")
def test_what_cannot_be_waited_for_is_refused(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.begin(fps=25)
    playlist = f"{path}/hls/stream.m3u8"
    until(lambda: client.ask("GET", playlist)[0] == 200, "a segment")
    session = service.sessions.get(path.rpartition("/")[2])

    def code(query: str) -> tuple[int, str]:
        status, answer = client.ask("GET", playlist + query)
        return status, answer["error"]["code"] if isinstance(answer, dict) else ""

    assert code("?_HLS_msn=9999") == (400, "too_far")
    assert code("?_HLS_part=1") == (400, "no_segment")
    assert code("?_HLS_msn=-1")[0] == code("?_HLS_msn=x")[0] == 422
    for name in ("9999.0.m4s", "1.99.m4s", "99.m4s"):
        assert client.ask("GET", f"{path}/hls/{name}")[1]["error"]["code"] == "unknown_segment"
    assert client.ask("GET", f"{path}/hls/1.x.m4s")[0] in (404, 422)
    until(lambda: session.clock.now() == 1.2, "playback stands still")
    monkeypatch.setattr(service, "settings", replace(service.settings, hls_wait=0.1))
    newest = session.window.newest()
    assert newest
    assert code(f"?_HLS_msn={newest.segment + 1}") == (503, "not_yet")
    client.ask("DELETE", path)


@pytest.mark.usefixtures("held")
def test_those_who_wait_are_let_go_at_the_end(client: Client, service: Service) -> None:
    path = client.begin(fps=25)
    player = Player(client, path)
    session = service.sessions.get(path.rpartition("/")[2])
    with ThreadPoolExecutor(4) as pool:
        newest = session.window.newest()
        assert newest
        waiting = [pool.submit(player.get, f"stream.m3u8?_HLS_msn={newest.segment}&_HLS_part=3") for _ in range(4)]
        client.ask("DELETE", path)
        for answer in waiting:
            assert b"#EXTM3U" in answer.result(60)
