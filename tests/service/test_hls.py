"""The stream as HLS, read by FFmpeg from a real server."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from helpers.service_client import Client, Viewer, asking_by_token, until
from musetalk_runtime.service.delivery.fragments import Fragment
from musetalk_runtime.service.delivery.hls_playlist import LISTED_SEGMENTS, Playlist
from musetalk_runtime.service.delivery.hls_segments import cut
from musetalk_runtime.service.service import Service


@pytest.fixture(scope="module")
def client(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with asking_by_token(service, tmp_path_factory.mktemp("tokens")) as client:
        yield client


class Player(threading.Thread):
    """Plays a playlist from its first segment to its end: ``frames`` and ``samples`` have their times in seconds."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.frames: list[Fraction] = []
        self.samples: list[tuple[Fraction, int]] = []
        self._container: Any = av.open(url, options={"live_start_index": "0"}, timeout=60)
        self.start()

    def run(self) -> None:
        with self._container as container:
            for frame in container.decode():
                time = Fraction(frame.pts) * frame.time_base
                if isinstance(frame, av.VideoFrame):
                    self.frames.append(time)
                else:
                    self.samples.append((time, frame.samples))


@pytest.mark.slow
def test_ffmpeg_plays_the_live_playlist_to_its_end(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    path = client.begin()
    session = client.ask("GET", path)[1]
    whole = Viewer(client, path, whole=True)
    assert client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())[0] == 202
    player = Player(f"http://127.0.0.1:{client.port}{session['hls']}")
    until(lambda: len(player.frames) >= 75, "three seconds are played while they are made")
    assert service.sessions.running[0].running
    assert client.ask("DELETE", path) == (204, "")
    player.join(60)
    whole.join(60)
    assert not player.is_alive()
    with av.open(io.BytesIO(whole.init + whole.data)) as container:
        expected = [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]
    assert player.frames == expected == [Fraction(k, 25) for k in range(len(expected))]
    steps = [b[0] - a[0] - Fraction(a[1], 48_000) for a, b in zip(player.samples, player.samples[1:], strict=False)]
    assert all(abs(step) < Fraction(1, 1000) for step in steps)
    assert sum(count for _, count in player.samples) / 48_000 == pytest.approx(len(expected) / 25, abs=0.1)
    text = client.ask("GET", f"{path}/hls/stream.m3u8")[1]
    assert text.endswith("#EXT-X-ENDLIST\n")
    assert sum(map(float, re.findall(r"#EXTINF:([\d.]+)", text))) == pytest.approx(len(expected) / 25)


def test_segments_are_the_stream_and_as_bounded(client: Client, service: Service) -> None:
    path = client.begin(fps=60)
    session = service.sessions.get(path.rpartition("/")[2])
    whole = Viewer(client, path, whole=True)
    with client.request("GET", f"{path}/hls/stream.m3u8") as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("application/vnd.apple.mpegurl")
    assert "1.m4s" in text.splitlines()  # it waits for the first
    assert client.ask("GET", f"{path}/hls/9999.m4s")[1]["error"]["code"] == "unknown_segment"
    until(lambda: session.frames > 130, "two segments")
    parts = []
    for name in ("init.mp4", "1.m4s", "2.m4s"):
        with client.request("GET", f"{path}/hls/{name}") as answer:
            parts.append(answer.read())
            assert answer.headers["Content-Type"] == "video/mp4"
            assert answer.headers["Cache-Control"].startswith("private")
    assert (whole.init + whole.data).startswith(b"".join(parts))
    session.window.seconds = 1.5
    until(lambda: status(client, f"{path}/hls/1.m4s") == 404, "the first is dropped")
    client.ask("DELETE", path)
    whole.join(60)


def status(client: Client, path: str) -> int:
    with client.request("GET", path) as answer:
        return answer.status


def test_a_signature_opens_the_folder_of_one_session_alone(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Client(client.port)
    monkeypatch.setattr(service, "settings", replace(service.settings, hls_wait=60.0))
    paths = [client.begin() for _ in range(2)]
    service.sessions.get(paths[0].rpartition("/")[2]).window.seconds = 600.0  # all stays until it is asked for
    url = client.ask("GET", paths[0])[1]["hls"]
    code, text = stranger.ask("GET", url)
    assert code == 200, text
    names = [line for line in text.splitlines() if line and line[0] != "#"] + re.findall(r'URI="([^"]+)', text)
    assert {name.partition("?")[0] for name in names} >= {"init.mp4", "1.m4s", "1.0.m4s"}
    for name in names:
        assert status(stranger, f"{paths[0]}/hls/{name}") == 200
        assert stranger.ask("GET", f"{paths[0]}/hls/{name.partition('?')[0]}")[0] == 401
        assert stranger.ask("GET", f"{paths[1]}/hls/{name}")[0] == 401
        assert stranger.ask("GET", f"{paths[0]}/stream.mp4?{name.partition('?')[2]}")[0] == 401
        assert stranger.ask("GET", f"{paths[0]}/hls/../../{paths[1]}/hls/{name}")[0] in (401, 404)
    for path in paths:
        client.ask("DELETE", path)


def test_a_playlist_lists_the_newest_and_numbers_them_on() -> None:
    # Ten fragments of a frame a segment at 10 frames a second, three of them a part.
    held = [Fragment(k, 0, k / 10, k % 10 == 0, b"%d," % k, 1, k // 10) for k in range(25, 105)]
    fps = Fraction(10)
    segments = cut(held, fps, over=False)
    assert [segment.number for segment in segments] == list(range(3, 11))
    assert [segment.whole for segment in segments] == [True] * 7 + [False]
    assert segments[0].data == b"".join(b"%d," % number for number in range(30, 40))
    assert cut([], fps, False) == cut([], fps, True) == []
    live = Playlist(segments, fps, over=False)
    assert live.next_part == (10, 1)
    assert [live.has(9, None), live.has(10, None), live.has(10, 0), live.has(10, 1), live.has(9, 7)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert live.text("a=b").splitlines()[-3:] == [
        "9.m4s?a=b",
        '#EXT-X-PART:DURATION=0.30000,URI="10.0.m4s?a=b",INDEPENDENT=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="10.1.m4s?a=b"',
    ]
    over = cut(held, fps, over=True)
    assert over[-1].whole
    assert over[-1].data == b"100,101,102,103,104,"
    lines = Playlist(over, fps, over=True).text("a=b").splitlines()
    assert "#EXT-X-MEDIA-SEQUENCE:5" in lines
    assert lines.count("#EXTINF:1.00000,") == LISTED_SEGMENTS - 1
    assert lines[-4:] == [
        '#EXT-X-PART:DURATION=0.20000,URI="10.1.m4s?a=b"',
        "#EXTINF:0.50000,",
        "10.m4s?a=b",
        "#EXT-X-ENDLIST",
    ]
    assert sum(line.startswith("#EXT-X-PART:") for line in lines) == 4 + 4 + 2
