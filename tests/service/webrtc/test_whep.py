"""A session by WebRTC, to aiortc."""

import asyncio
import random
import re
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs the extra webrtc")

import aiortc

from helpers.media import tone_hertz
from helpers.service_client import Client, HeldClock, asking_by_token, end_sessions, serving, until
from helpers.whep_client import SDP, TimedPackets, WhepViewer, watching
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.api import sessions, whep
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.settings import Settings
from musetalk_runtime.service.webrtc import peer
from musetalk_runtime.service.webrtc.ice_server import IceServer
from musetalk_runtime.service.webrtc.offer import KINDS

STUN, TURN = IceServer("stun:127.0.0.1:9"), IceServer("turn:127.0.0.1:9?transport=udp", "me", 'a "word"')
CONSTRAINED_BASELINE = b"\x67\x42\xc0"  # a sequence parameter set's first bytes; and level 3.1 is 31
TONE = 440  # hertz
OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:0
a=recvonly
a=rtcp-mux
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:sha-256 """ + ":".join(["AB"] * 32) + """
a=setup:actpass
a=rtpmap:96 H264/90000
a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
"""  # fmt: skip


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=2, peers=3))


@pytest.fixture
def client(server: Any, service: Service) -> Iterator[Client]:
    yield Client(server.port)
    end_sessions(service)
    until(lambda: service.sessions.viewers == 0, "the viewers are gone")


def test_frames_and_sound_come_decoded_and_in_step(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: len(viewer.video) > 60, "frames come")

    path = client.begin()
    client.ask("POST", f"{path}/audio", speech(4.0).read_bytes())
    viewer = watching(client, path, lambda viewer: _then(watch(viewer), viewer))
    assert {(frame.width, frame.height) for frame in viewer.video} == {(320, 240)}
    steps = {"video": 3600, "audio": 960}  # of 90 kHz, 25 frames a second; of 48 kHz, 20 ms
    for kind, frames in (("video", viewer.video), ("audio", viewer.audio)):
        found = np.diff([frame.pts for frame in frames])
        assert set(found % steps[kind]) == {0}  # one may be lost on the way
        assert np.median(found) == steps[kind]
    assert any(np.abs(one.to_ndarray().astype(int)).max() > 1000 for one in viewer.audio)
    assert viewer.location.startswith(f"{path}/whep/")
    until(lambda: service.sessions.viewers == 0, "the viewer is gone")
    assert client.ask("DELETE", viewer.location)[1]["error"]["code"] == "unknown_connection"


def test_sender_reports_give_both_tracks_the_times_of_the_stream(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    """By its reports a receiver finds for each packet, of either track, one and the same second of the stream."""
    found = TimedPackets()

    async def watch(viewer: WhepViewer) -> None:
        session = service.sessions.running[0]
        queues = [session.packets.subscribe(kind) for kind in KINDS]

        def enough() -> bool:
            found.sent += [queue.get_nowait() for queue in queues for _ in range(queue.qsize())]
            reports = [found.reports.get(kind, []) for kind in KINDS]
            return min(map(len, reports)) > 2 and all(
                len(found.begins(kind, told[0])) > 10 for kind, told in zip(KINDS, reports, strict=True)
            )

        await viewer.until(enough, "reports and packets come", 30)

    path = client.begin(lead=0)
    client.ask("POST", f"{path}/audio", speech(8.0).read_bytes())
    with found.listening():
        watching(client, path, watch)
    for kind, reports in found.reports.items():
        begins = found.begins(kind, reports[0])
        assert len(begins) > 10
        assert max(begins) - min(begins) < 1 / 40_000  # seconds: a clock's tick
        assert np.ptp([found.begins(kind, report)[0] for report in reports]) < 1 / 40_000
    video, audio = (found.begins(kind, found.reports[kind][0])[0] for kind in KINDS)
    assert abs(video - audio) < 1 / 40_000


def test_without_a_lead_a_frame_is_made_a_frame_and_20_ms_before_it_is_shown(bundle: Path, avatar: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        clock = HeldClock(0.0)
        service = Service(b, {"one": a}, Settings(sessions=1), lambda: clock)

        async def watch(viewer: WhepViewer) -> None:
            await viewer.until(lambda: session.packets.subscribers, "it is connected")
            clock.limit = 1.0
            await viewer.until(lambda: viewer.video, "frames come")

        with serving(service) as running:
            client = Client(running.port)
            path = client.begin(lead=0)
            session = service.sessions.running[0]
            watching(client, path, watch)
            until(lambda: session.clock.now() == 1.0, "playback is held")
            until(lambda: session.frames > 26, "the frames are made that are due")
            time.sleep(0.3)
            assert session.frames == 27  # the last is shown at 1.04 s
            assert session.speech.handed_out == pytest.approx(1.0 + 0.04 + 0.02 + 0.12)
            end_sessions(service)


def test_a_viewer_that_is_there_before_the_first_fragment_sees_it(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = LiveSession.start

    def watched(session: LiveSession) -> None:
        session.audience.add(live=True)
        start(session)

    monkeypatch.setattr(LiveSession, "start", watched)
    session = service.sessions.get(client.begin().rpartition("/")[2])
    until(lambda: session.frames > 10, "it goes on")


def test_who_comes_late_begins_with_the_next_frame(client: Client, service: Service) -> None:
    async def watch(viewer: WhepViewer) -> int:
        session = service.sessions.running[0]
        await viewer.until(lambda: session.packets.subscribers, "it is connected")
        before = session.frames
        await viewer.until(lambda: viewer.video, "the first frame comes")
        return session.frames - before

    path = client.begin(lead=0)
    until(lambda: service.sessions.running[0].frames > 30, "it runs")
    assert min(watching(client, path, watch) for _ in range(3)) < 12  # a keyframe comes each 25 by itself


def test_a_viewers_estimate_steers_the_bit_rate(client: Client, service: Service) -> None:
    path = client.begin(lead=0)
    session = service.sessions.get(path.rpartition("/")[2])
    rate = session.bit_rate
    assert rate
    assert rate.now() == rate.most

    async def watch() -> None:
        async with WhepViewer(client, path) as viewer:
            await viewer.until(lambda: len(viewer.video) > 30, "it is seen")
            before = len(viewer.video)
            await viewer.estimate(60)
            await viewer.until(lambda: rate.now() < 60, "the rate is lower")
            await viewer.until(lambda: len(viewer.video) > before + 10, "it goes on")
        await viewer.until(lambda: rate.now() == rate.most, "its estimate is forgotten")

    asyncio.run(watch())
    assert not service.sessions.get(client.begin().rpartition("/")[2]).bit_rate


def test_the_picture_is_of_the_profile_that_is_agreed_on(client: Client, service: Service) -> None:
    seen: list[bytes] = []

    async def watch(viewer: WhepViewer) -> None:
        queue = service.sessions.running[0].packets.subscribe("video")
        await viewer.until(lambda: len(viewer.video) > 5, "frames come")
        while not queue.empty():
            seen.append(queue.get_nowait().data)

    viewer = watching(client, client.begin(lead=0), lambda viewer: _then(watch(viewer), viewer))
    assert re.findall(r"a=rtpmap:(\d+) (\w+)/90000", viewer.answer)[0][1] == "H264"
    assert "profile-level-id=42e01f" in viewer.answer
    places = [data.find(CONSTRAINED_BASELINE) for data in seen]
    assert max(places) > 0
    level = [data[at + 3] for data, at in zip(seen, places, strict=True) if at > 0]
    assert max(level) <= 31


def test_a_microphone_becomes_live_speech(client: Client, service: Service, speech: Callable[[float], Path]) -> None:
    turns: list[dict[str, Any]] = []

    async def talk(viewer: WhepViewer) -> None:
        session = service.sessions.running[0]
        publish = session.events.publish
        session.events.publish = lambda name, **told: (
            turns.append(told) if name == "turn" else None,
            publish(name, **told),
        )
        await viewer.until(lambda: turns and session.state == "speaking", "it speaks")
        await viewer.until(
            lambda: any(np.abs(one.to_ndarray().astype(int)).max() > 1000 for one in viewer.audio), "it is heard"
        )
        assert session.has_audio_socket
        status, _ = await asyncio.to_thread(client.ask, "POST", f"{path}/interrupt")
        assert status == 200
        await viewer.until(lambda: any(turn["what"] == "interruption" for turn in turns), "the mouth is closed")

    path = client.begin(lead=0)
    session = service.sessions.running[0]
    watching(client, path, talk, speech(8.0))
    end = [turn["what"] for turn in turns].index("interruption")
    assert {turn["what"] for turn in turns[:end]} == {"speech"}
    assert all(turn["seconds"] > 0 for turn in turns[: end + 1])
    until(lambda: not session.has_audio_socket, "another may speak")
    figures = client.ask("GET", "/metrics")[1]
    assert int(re.findall(r"musetalk_turn_speech_seconds_count (\d+)", figures)[0]) >= 1
    assert "musetalk_turn_interruption_seconds_count 1" in figures


@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 48_000)])
def test_a_microphones_pitch_is_kept(
    client: Client, service: Service, tmp_path: Path, channels: int, rate: int
) -> None:
    """For the model, at 16 kHz, and for who listens, at 48 kHz."""
    tone = (9000 * np.sin(2 * np.pi * TONE * np.arange(8 * rate) / rate)).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.repeat(tone, channels).tobytes())
    spoken: list[np.ndarray] = []

    def heard(viewer: WhepViewer) -> np.ndarray:
        frames = [frame.to_ndarray()[0, ::2] for frame in viewer.audio]
        return np.concatenate([np.empty(0, np.int16), *(one for one in frames if np.abs(one).max() > 3000)])

    async def talk(viewer: WhepViewer) -> None:
        speech = service.sessions.running[0].speech
        push = speech.push
        speech.push = lambda piece, *limit: (spoken.append(piece.speech), push(piece, *limit))[1]
        await viewer.until(lambda: len(heard(viewer)) > 48_000, "a second of it is heard")

    viewer = watching(client, client.begin(lead=0), lambda viewer: _then(talk(viewer), viewer), tmp_path / "tone.wav")
    assert tone_hertz(np.concatenate(spoken)[4000:], 16_000) == pytest.approx(TONE, abs=3)
    assert tone_hertz(heard(viewer)[4800:43_200], 48_000) == pytest.approx(TONE, abs=10)


def test_deleting_it_ends_the_connection(client: Client, service: Service) -> None:
    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: viewer.video, "frames come")
        status, _ = await asyncio.to_thread(client.ask, "DELETE", viewer.location)
        assert status == 204
        await viewer.until(lambda: viewer.connection.connectionState == "closed", "it ends")

    watching(client, client.begin(lead=0), watch)
    assert service.sessions.viewers == 0


def test_the_end_of_the_session_ends_the_connection(client: Client) -> None:
    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: viewer.video, "frames come")
        await asyncio.to_thread(client.ask, "DELETE", path)
        await viewer.until(lambda: viewer.ended == {"video", "audio"}, "the tracks end")

    path = client.begin(lead=0)
    watching(client, path, watch)


def test_a_viewer_that_is_gone_without_a_word_is_given_up(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aioice import ice

    monkeypatch.setattr(ice, "CONSENT_INTERVAL", 0.2)  # seconds, instead of 5
    monkeypatch.setattr(ice.stun, "RETRY_RTO", 0.05)

    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: viewer.video, "frames come")
        await viewer.lost()
        await viewer.until(lambda: service.sessions.viewers == 0, "it is given up")

    watching(client, client.begin(lead=0), watch)


def test_a_connection_that_does_not_close_is_given_up(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: viewer.video, "frames come")
        with monkeypatch.context() as patch:
            patch.setattr(peer, "CLOSE_TIMEOUT_S", 0.1)
            patch.setattr(aiortc.RTCPeerConnection, "close", never)
            status, _ = await asyncio.to_thread(client.ask, "DELETE", viewer.location)
        assert status == 204
        assert service.sessions.viewers == 0

    watching(client, client.begin(lead=0), watch)


def test_connections_leave_nothing_behind(client: Client, service: Service) -> None:
    async def watch(viewer: WhepViewer) -> None:
        await viewer.until(lambda: viewer.video, "frames come")

    def held() -> tuple[int, int]:
        until(lambda: service.sessions.viewers == 0, "it is gone")
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    path = client.begin(lead=0)
    watching(client, path, watch)
    watching(client, path, watch)
    before = held()
    for _ in range(6):
        watching(client, path, watch)
    after = held()
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1
    session = service.sessions.running[0]
    assert not session.audience.peers
    until(lambda: not session.packets.subscribers, "nobody is subscribed")


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (OFFER, "text/plain", 415, "no_sdp"),
        (OFFER, "", 415, "no_sdp"),
        ("", "application/sdp", 422, "bad_offer"),
        ("v=0\r\nm=video", "application/sdp", 422, "bad_offer"),
        ("\x00\xff" * 500, "application/sdp", 422, "bad_offer"),
        (OFFER.replace("a=recvonly", "a=sendonly"), "application/sdp", 422, "bad_offer"),
        (OFFER.replace("H264", "VP8"), "application/sdp", 422, "bad_offer"),
        (OFFER.replace("m=video", "m=application"), "application/sdp", 422, "bad_offer"),
        (OFFER + OFFER[OFFER.index("m=") :].replace("mid:0", "mid:1") * 50, "application/sdp", 422, "bad_offer"),
        (OFFER.replace("BUNDLE 0", "BUNDLE x 0"), "application/sdp", 422, "bad_offer"),
        (re.sub("a=ice-ufrag.*\n", "", OFFER), "application/sdp", 422, "bad_offer"),
        (re.sub("a=fingerprint.*\n", "", OFFER), "application/sdp", 422, "bad_offer"),
        ("v" * (65 << 10), "application/sdp", 413, "too_large"),
    ],
)
def test_what_is_no_offer_is_refused(
    client: Client, service: Service, content: str, kind: str, status: int, code: str
) -> None:
    path = f"{client.begin()}/whep"
    found, error = client.ask("POST", path, content.encode("utf-8", "replace"), **{"Content-Type": kind})
    assert (found, error["error"]["code"]) == (status, code)
    assert service.sessions.viewers == 0


def test_offers_that_are_nearly_right_are_answered_or_refused(client: Client, service: Service) -> None:
    chance = random.Random(0)  # noqa: S311 - it is to be the same again
    path = client.begin()
    statuses = set()
    for _ in range(60):
        lines = OFFER.split("\n")
        for _ in range(chance.randint(1, 3)):
            place, way = chance.randrange(len(lines)), chance.randrange(4)
            if way == 0:
                lines.insert(place, chance.choice(lines))
            elif way == 1:
                lines[place] = lines[place][: chance.randint(0, len(lines[place]))]
            elif way == 2:
                lines[place] = lines[place].replace(chance.choice("0123456789"), chance.choice(["", "-", "99999"]))
            else:
                words = lines[place].split(" ")
                words[chance.randrange(len(words))] = chance.choice(["", "-1", "x" * 300, "\0", "é", "9" * 20])
                lines[place] = " ".join(words)
        with client.request("POST", f"{path}/whep", "\n".join(lines).encode(), **SDP) as answer:
            answer.read()
            statuses.add(answer.status)
        if answer.status == 201:
            assert client.ask("DELETE", answer.headers["Location"])[0] == 204
    assert statuses == {201, 422}
    assert service.sessions.viewers == 0


def test_who_posts_an_offer_and_does_not_come_is_given_up(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "CONNECT_TIMEOUT_S", 10.0)
    path = client.begin()
    for _ in range(service.settings.peers):
        assert _asked(client, "POST", f"{path}/whep", OFFER)[0] == 201
    status, headers = _asked(client, "POST", f"{path}/whep", OFFER)
    assert status == 503
    assert headers["Retry-After"]
    until(lambda: service.sessions.viewers == 0, "they are given up")


def test_what_whep_has_and_this_has_not_is_405(client: Client) -> None:
    path = client.begin()
    location = _asked(client, "POST", f"{path}/whep", OFFER)[1]["Location"]
    status, headers = _asked(client, "PATCH", location, "a=ice-ufrag:x", "application/trickle-ice-sdpfrag")
    assert (status, headers["Allow"]) == (405, "DELETE")
    assert client.ask("GET", f"{path}/whep")[0] == 405
    assert client.ask("DELETE", location)[0] == 204
    assert client.ask("DELETE", location)[0] == 404


def test_ice_servers_are_told(bundle: Path, avatar: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1, ice_servers=(STUN, TURN)))
        with serving(service) as running:
            client = Client(running.port)
            path = client.begin()
            status, headers = _asked(client, "OPTIONS", f"{path}/whep")
            assert status == 204
            assert headers["Accept-Post"] == "application/sdp"
            assert headers.get_all("Link") == [
                '<stun:127.0.0.1:9>; rel="ice-server"',
                '<turn:127.0.0.1:9?transport=udp>; rel="ice-server"; username="me"; credential="a \\"word\\""; '
                'credential-type="password"',
            ]
            servers = client.ask("GET", path)[1]["ice_servers"]
            assert servers[1] == {"urls": TURN.url, "username": "me", "credential": 'a "word"'}


def test_with_tokens_an_address_is_its_permission(bundle: Path, avatar: Path, tmp_path: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1))
        with asking_by_token(service, tmp_path) as client:
            anybody = Client(client.port)
            session = client.ask("POST", "/v1/sessions", {"avatar": "one", "fps": 25})[1]
            path = f"/v1/sessions/{session['id']}/whep"
            forged = session["whep"].replace("signature=", "signature=0")
            of_another = session["stream"].replace("stream.mp4", "whep")
            assert _asked(client, "POST", path, OFFER)[0] == 201
            assert [_asked(anybody, "POST", one, OFFER)[0] for one in (path, forged, of_another)] == [401, 401, 401]
            status, headers = _asked(anybody, "POST", session["whep"], OFFER)
            assert status == 201
            location = headers["Location"]
            assert anybody.ask("DELETE", location.partition("?")[0])[0] == 401
            assert anybody.ask("DELETE", location)[0] == 204


def test_without_the_extra_one_line_says_how_to_get_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (whep, sessions):
        monkeypatch.setattr(module, "has_webrtc", lambda: False)
    path = client.begin()
    assert client.ask("GET", path)[1]["whep"] is None
    status, error = client.ask("POST", f"{path}/whep", OFFER, **SDP)
    assert (status, error["error"]["code"]) == (501, "no_webrtc")
    assert "pip install 'musetalk-edge[webrtc]'" in error["error"]["message"]


def _asked(client: Client, method: str, path: str, body: str = "", kind: str = "application/sdp") -> tuple[int, Any]:
    """Status and headers."""
    with client.request(method, path, body, **{"Content-Type": kind}) as answer:
        answer.read()
        return answer.status, answer.headers


async def _then(waiting: Any, value: Any) -> Any:
    await waiting
    return value
