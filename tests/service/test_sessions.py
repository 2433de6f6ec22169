"""The service on a real socket."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from helpers.media import voice
from helpers.service_client import Client, HeldClock, Viewer, end_sessions, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.audio.speech_piece import SpeechPiece, silence
from musetalk_runtime.service.delivery.fragments import Fragment, split
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session import pace
from musetalk_runtime.service.session.lead import idle_lead
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.session.speech_queue import MOUTH_FADE_S, SpeechQueue
from musetalk_runtime.service.settings import Settings

SESSIONS = 4
OTHER = "a" * 24


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=SESSIONS))


@pytest.fixture
def client(server: Any, service: Service) -> Iterator[Client]:
    """A client; the sessions it began are ended after the test."""
    yield Client(server.port)
    end_sessions(service)


def end(client: Client, path: str, *viewers: Viewer) -> None:
    assert client.ask("DELETE", path) == (204, "")
    for viewer in viewers:
        viewer.join(60)
        assert not viewer.is_alive()


def generated(client: Client, path: str) -> float:
    return client.ask("GET", path)[1]["generated"]


def counter(client: Client, name: str) -> float:
    return counter_in(client.ask("GET", "/metrics")[1], name)


def counter_in(figures: str, name: str) -> float:
    return next(float(line.split()[1]) for line in figures.splitlines() if line.startswith(f"musetalk_{name} "))


def decode(data: bytes) -> list[Any]:
    with av.open(io.BytesIO(data)) as container:
        return list(container.decode(video=0))


def keyframe_after(session: LiveSession, offset: int) -> bool:
    """Whether who joins now begins after this byte of the stream."""
    keyframe = session.window.newest_keyframe()
    return keyframe is not None and keyframe.offset > offset


def test_viewers_get_the_same_fragments_and_each_frame_is_made_once(
    client: Client, service: Service, speech: Callable
) -> None:
    before = counter(client, "frames_total")
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    viewers = [Viewer(client, path, whole=True)]
    assert client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())[1]["seconds"] == pytest.approx(2, abs=0.01)
    until(lambda: keyframe_after(session, viewers[0].offset), "a second of stream")
    viewers.append(Viewer(client, path))
    until(lambda: keyframe_after(session, viewers[1].offset), "another second of stream")
    viewers.append(Viewer(client, path, "?slow=end"))
    until(lambda: len(viewers[2].data) > 1000, "the third viewer gets something")
    end(client, path, *viewers)
    first, second, third = viewers
    assert first.init == second.init == third.init
    assert 0 < second.offset - first.offset < third.offset - first.offset
    assert second.data == first.data[second.offset - first.offset :]
    assert third.data == first.data[third.offset - first.offset :]
    frames = [decode(viewer.init + viewer.data) for viewer in viewers]
    assert [frame.pts for frame in frames[2]] == [frame.pts for frame in frames[0]][-len(frames[2]) :]
    until(lambda: counter(client, "frames_total") - before == len(frames[0]), "the frames are counted")
    _, fragments = split([first.init + first.data])
    assert {fragment.offset for fragment in fragments if fragment.keyframe} >= {second.offset, third.offset}


def test_a_viewer_that_was_cut_off_goes_on_to_the_byte(client: Client) -> None:
    path = client.begin()
    whole = Viewer(client, path, whole=True)
    dropped = Viewer(client, path, limit=9000)  # in the middle of a fragment
    dropped.join()
    until(lambda: generated(client, path) > 2, "more of the stream")
    again = Viewer(client, path, Range=f"bytes={dropped.end}-")
    assert (again.status, again.offset) == (206, dropped.end)
    assert again.answer.headers["Content-Range"].startswith(f"bytes {dropped.end}-")
    by_number = Viewer(client, path, "?from=3")
    end(client, path, whole, again, by_number)
    at = dropped.offset - whole.offset
    assert dropped.data + again.data == whole.data[at:]
    _, fragments = split([whole.init + whole.data])
    third = fragments[2]
    assert by_number.offset == third.offset
    assert by_number.data == whole.data[third.offset - whole.offset :]


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?from=99999", {}), ("", {"Range": "bytes=99999999-"}), ("", {"Range": f"bytes={'9' * 15}-"})],
)
def test_what_is_not_there_yet_or_no_more_is_416(client: Client, query: str, headers: dict[str, str]) -> None:
    path = client.begin()
    until(lambda: generated(client, path) > 0.5, "a fragment")
    status, answer = client.ask("GET", f"{path}/stream.mp4{query}", **headers)
    assert (status, answer["error"]["code"]) == (416, "out_of_window")


def test_a_stalled_viewer_is_moved_or_ended_and_holds_up_nobody(client: Client, service: Service) -> None:
    path = client.begin(fps=60)
    session = service.sessions.get(path.rpartition("/")[2])
    before = counter(client, "skips_total"), counter(client, "dropped_viewers_total")
    stalled = [stall(client, path, policy) for policy in ("skip", "end")]
    watching = Viewer(client, path)
    start = generated(client, path)
    until(lambda: generated(client, path) > start + 4, "the stream goes on")
    made = session.window.end_offset()
    until(lambda: watching.end >= made, "who watches has it")
    session.window.seconds = 0.5  # from here on, the stalled ones have lost their place
    newest = session.frames
    until(lambda: session.frames > newest + 10, "the window is shorter")
    threads = [drain(viewer) for viewer in stalled]
    until(lambda: counter(client, "dropped_viewers_total") == before[1] + 1, "one viewer is ended")
    until(lambda: counter(client, "skips_total") > before[0], "the other is moved")
    end(client, path, watching)
    assert not watching.cut
    assert len(decode(watching.init + watching.data)) > 200
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def stall(client: Client, path: str, policy: str) -> socket.socket:
    """A viewer with small buffers that asks and reads nothing."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", client.port))
    viewer.settimeout(60)
    viewer.sendall(
        f"GET {path}/stream.mp4?slow={policy} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    return viewer


def drain(viewer: socket.socket) -> threading.Thread:
    def read() -> None:
        with viewer:
            while viewer.recv(65536):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_a_viewer_that_closes_in_mid_fragment_harms_nobody(client: Client, service: Service) -> None:
    path = client.begin()
    staying = Viewer(client, path)
    for size in (1, 700, 3000):
        Viewer(client, path, limit=size).join()
    until(lambda: service.sessions.viewers == 1, "the service notices")
    start = generated(client, path)
    until(lambda: generated(client, path) > start + 0.5, "the stream goes on")
    end(client, path, staying)
    assert decode(staying.init + staying.data)


def test_an_interruption_stops_the_mouth_within_200_ms_of_the_stream(
    client: Client, service: Service, avatar: Path, speech: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HeldClock(2.0)
    monkeypatch.setattr(service.starter, "playback_clock", lambda: clock)
    monkeypatch.setattr(pace, "LATE_SECONDS", 1000)  # no picture is repeated, however busy this machine is
    path = client.begin(lead=1.0)
    session = service.sessions.get(path.rpartition("/")[2])
    viewer = Viewer(client, path)
    client.ask("POST", f"{path}/audio", speech(20.0).read_bytes())
    until(lambda: session.frames > 60 and session.clock.now() == 2.0, "it speaks")
    assert session.ahead <= 1.0
    clock.limit = inf
    status, cut = client.ask("POST", f"{path}/interrupt")
    assert status == 200
    assert cut["at"] <= generated(client, path) + 0.2  # whatever was handed out before
    assert session.speech.queued <= 0.02
    until(lambda: generated(client, path) > cut["at"] + 1, "it goes on")
    end(client, path, viewer)
    with Avatar.open(avatar) as pack:
        frames = [(round(frame.time * 25), frame) for frame in decode(viewer.init + viewer.data)]
        own = {k: closeness(frame, pack.frame(pack.index_at(k, session.fps))) for k, frame in frames}
    quiet = [value for k, value in own.items() if k / 25 >= cut["at"]]
    spoken = [value for k, value in own.items() if cut["at"] - 1.0 <= k / 25 < cut["at"] - 0.2]
    assert len(quiet) >= 20
    assert min(quiet) > 30  # dB: as the encoder leaves it
    assert min(spoken) < min(quiet) - 3


def test_an_interruption_is_told_from_the_last_sound_on_though_frames_come_meanwhile(
    client: Client, service: Service, speech: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.begin(lead=1.0)
    session = service.sessions.get(path.rpartition("/")[2])
    client.ask("POST", f"{path}/audio", speech(20.0).read_bytes())
    until(lambda: session.frames > 30, "it speaks")
    cut, before = session.speech.cut, 0

    def cut_late(made: float) -> tuple[float, float]:
        nonlocal before
        found, before = cut(made), round(made * 25)
        until(lambda: session.frames >= before + 3, "frames come meanwhile")
        return found

    monkeypatch.setattr(session.speech, "cut", cut_late)
    at = client.ask("POST", f"{path}/interrupt")[1]["at"]
    assert at >= (before + 2) / 25 + MOUTH_FADE_S - 0.001


def closeness(frame: Any, own: np.ndarray) -> float:
    """PSNR of the luma, in dB."""
    height = frame.height
    error = np.mean(np.square(frame.to_ndarray(format="gray").astype(float) - own[:height]))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def test_for_who_watches_live_nothing_is_made_ahead(bundle: Path, avatar: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1), lambda: HeldClock(1.0))
        with serving(service) as running:
            client = Client(running.port)
            path = client.begin(lead=0)
            live = Viewer(client, path, "?live=true")
            session = service.sessions.running[0]
            until(lambda: session.clock.now() == 1.0 and session.frames > 26, "the frames are made that are due")
            time.sleep(0.3)
            assert session.frames == 27  # the last is shown at 1.04 s
            other = Viewer(client, path)
            until(lambda: session.audience.viewers == 2, "another watches")
            time.sleep(0.3)
            assert session.frames == 27
            end_sessions(service)
            live.join(60)
            other.join(60)


def test_the_audio_socket_takes_pcm_and_refuses_the_rest(client: Client, service: Service) -> None:
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    url = f"ws://127.0.0.1:{client.port}{path}/audio"
    events = client.events(path)
    next(events)
    with connect(url) as audio:
        audio.send(voice(8.0).astype("<i2").tobytes())  # more than the lead, so that some waits
        until(lambda: session.state == "speaking", "it speaks")
        assert closing_code(url) == 1008
    for garbage in ("text", b"odd", b""):
        until(lambda: not session.has_audio_socket, "the socket is free")
        assert closing_code(url, garbage) == 1003
    until(lambda: not session.has_audio_socket, "the socket is free")
    assert closing_code(url, bytes(300 << 10)) == 1009
    assert any(name == "warning" and "s16le" in content["message"] for name, content in events)
    assert session.running


def test_a_microphone_that_is_open_in_silence_is_nobody_who_speaks(client: Client, service: Service) -> None:
    """A second of noise of a room, of speech, and of noise again, as a browser sends them."""
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    noise = np.random.default_rng(0).normal(0, 20, 16_000)  # -64 dBFS
    spoken = np.concatenate([noise, voice(1.0), noise, noise]).astype("<i2")
    events = client.events(path)
    with connect(f"ws://127.0.0.1:{client.port}{path}/audio") as audio:
        for piece in np.array_split(spoken, 40):
            audio.send(piece.tobytes())
        states = [(content["state"], content["at"]) for name, content in events_until(events, 5.0) if name == "state"]
    spoke = [at for state, at in states if state == "speaking"]
    assert len(spoke) == 1
    begin, end = spoke[0], next(at for state, at in states if state == "idle" and at > spoke[0])
    assert session.state == "idle"
    assert 1.0 <= end - begin <= 3.0  # the lead is filled at once, so that its beginning is known before it is heard


def events_until(events: Iterator[tuple[str, Any]], seconds: float) -> Iterator[tuple[str, Any]]:
    """Those up to the first ``buffer`` of which says that so many `seconds` of stream are made."""
    for name, content in events:
        yield name, content
        if name == "buffer" and content["generated"] >= seconds:
            return


def test_the_audio_socket_takes_other_rates_and_tells_where_it_is_said(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.starter, "playback_clock", lambda: HeldClock(0.0))  # no silence comes between
    path = client.begin()
    url = f"ws://127.0.0.1:{client.port}{path}/audio"
    for refused in ("?rate=7999", "?rate=48001", "?rate=x", "?positions=perhaps"):
        with pytest.raises(InvalidStatus), connect(url + refused):
            pass
    told = []
    with connect(f"{url}?rate=24000&positions=true") as audio:
        for _ in range(4):
            audio.send(voice(0.5, 24_000).astype("<i2").tobytes())
            told.append(json.loads(audio.recv(timeout=60)))
    begins, ends = ([one[name] for one in told] for name in ("begin", "end"))
    assert begins[1:] == pytest.approx(ends[:-1], abs=0.001)  # one after the other
    assert ends[-1] - begins[0] == pytest.approx(2.0, abs=0.01)


def test_the_audio_socket_tells_where_it_is_said_whatever_is_said_next(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.begin()
    push, places = SpeechQueue.push, []

    def push_two(queue: SpeechQueue, piece: SpeechPiece, *limit: float) -> Any:
        places.append(push(queue, piece, *limit))
        push(queue, silence(16_000))  # another client is as quick
        return places[-1]

    monkeypatch.setattr(SpeechQueue, "push", push_two)
    with connect(f"ws://127.0.0.1:{client.port}{path}/audio?positions=true") as audio:
        audio.send(voice(0.5).tobytes())
        told = json.loads(audio.recv(timeout=60))
    begin = places[0].begin
    assert [told["begin"], told["end"]] == pytest.approx([begin, begin + 0.5], abs=0.01)


def test_a_turn_is_timed_where_it_is_said(client: Client, speech: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    path = client.begin()
    events = client.events(path)
    next(events)
    push, places = SpeechQueue.push, []

    def push_late(queue: SpeechQueue, *arguments: Any) -> Any:
        before = queue.handed_out
        until(lambda: queue.handed_out > before, "silence is taken meanwhile")
        places.append(push(queue, *arguments))
        return places[-1]

    monkeypatch.setattr(SpeechQueue, "push", push_late)
    assert client.ask("POST", f"{path}/audio", speech(1.0).read_bytes())[0] == 202
    at = next(content["at"] for name, content in events if name == "turn")
    assert places[0].begin <= at <= places[0].begin + 0.05


def test_an_answer_tells_how_long_a_clip_is_and_what_is_said_before_it(
    client: Client, service: Service, speech: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is being said by then."""
    monkeypatch.setattr(service.starter, "playback_clock", lambda: HeldClock(0.0))
    push = SpeechQueue.push

    def push_and_wait(queue: SpeechQueue, *arguments: Any) -> Any:
        place = push(queue, *arguments)
        until(lambda: queue.handed_out > 0.3, "some of it is taken")
        return place

    monkeypatch.setattr(SpeechQueue, "push", push_and_wait)
    clip = speech(4.0).read_bytes()
    status, begun = client.ask("POST", "/v1/sessions/audio?avatar=one&fps=25&then=listen", clip)
    assert (status, begun["seconds"]) == (201, 4.0)
    assert begun["before"] <= idle_lead(Fraction(25))
    _, answer = client.ask("POST", f"/v1/sessions/{begun['id']}/audio", clip)
    assert answer["seconds"] == 4.0
    assert 2.0 <= answer["before"] <= 4.0 + idle_lead(Fraction(25))
    assert answer["queued"] == answer["before"] + 4.0


def test_an_audio_socket_faster_than_playback_waits_or_is_closed(client: Client, service: Service) -> None:
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    url = f"ws://127.0.0.1:{client.port}{path}/audio"
    second = bytes(32_000)
    assert closing_code(f"{url}?full=end", *[second] * 30) == 1013
    until(lambda: not session.has_audio_socket, "the socket is free")
    with connect(url) as audio:
        for _ in range(20):
            audio.send(second)
        assert session.has_audio_socket  # from the handshake on
        until(lambda: session.speech.queued > 9, "as much waits as may")
        assert session.speech.queued <= 10
        assert session.has_audio_socket
        client.ask("DELETE", path)
        assert closed_with(audio) == 1001


def test_an_audio_socket_that_is_read_no_further_stays_open(
    client: Client, service: Service, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers to pings are not read either."""
    monkeypatch.setattr(service.starter, "playback_clock", lambda: HeldClock(0.0))
    monkeypatch.setattr(server.config, "ws_ping_interval", 0.1)
    monkeypatch.setattr(server.config, "ws_ping_timeout", 0.2)
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    with connect(f"ws://127.0.0.1:{client.port}{path}/audio") as audio:
        for _ in range(28):
            audio.send(bytes(32_000))
        until(lambda: session.speech.queued > 9, "as much waits as may")
        with pytest.raises(TimeoutError):
            audio.recv(timeout=1.0)
        client.ask("POST", f"{path}/interrupt")
        until(lambda: session.speech.queued > 9, "it is read on")
        with pytest.raises(TimeoutError):
            audio.recv(timeout=0.5)
        client.ask("DELETE", path)
        assert closed_with(audio) == 1001


def test_an_audio_socket_that_answers_no_ping_is_closed(
    client: Client, service: Service, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.config, "ws_ping_interval", 0.1)
    monkeypatch.setattr(server.config, "ws_ping_timeout", 0.2)
    path = client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    head = f"GET {path}/audio HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
    head += "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as mute:
        mute.sendall(head.encode())
        assert b" 101 " in mute.recv(4096)
        mute.sendall(b"\x82\x82\0\0\0\0\0\0")  # a message of two bytes
        while mute.recv(4096):
            pass
    until(lambda: not session.has_audio_socket, "its place is free")


def test_a_silent_audio_socket_is_closed_with_its_session(client: Client) -> None:
    path = client.begin()
    with connect(f"ws://127.0.0.1:{client.port}{path}/audio") as audio:
        client.ask("DELETE", path)
        assert closed_with(audio) == 1001


def closing_code(url: str, *messages: bytes | str) -> int:
    """The code that the server closes a socket with which sends `messages`."""
    with connect(url) as audio:
        with suppress(ConnectionClosed):
            for message in messages:
                audio.send(message)
        return closed_with(audio)


def closed_with(audio: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        audio.recv(timeout=60)
    assert closed.value.rcvd
    return closed.value.rcvd.code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/v1/sessions/{OTHER}"),
        ("GET", f"/v1/sessions/{OTHER}/stream.mp4"),
        ("GET", f"/v1/sessions/{OTHER}/events"),
        ("POST", f"/v1/sessions/{OTHER}/interrupt"),
        ("POST", f"/v1/sessions/{OTHER}/audio"),
        ("DELETE", f"/v1/sessions/{OTHER}"),
        ("GET", "/v1/sessions/..%2f..%2fetc%2fpasswd"),
        ("GET", "/../../etc/passwd"),
        ("GET", "/page/app.js"),
    ],
)
def test_what_is_unknown_is_404_in_one_form(client: Client, method: str, path: str) -> None:
    status, answer = client.ask(method, path)
    assert status == 404
    assert set(answer["error"]) == {"code", "message"}


def test_an_audio_socket_of_an_unknown_session_is_refused(client: Client) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{client.port}/v1/sessions/{OTHER}/audio"):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"avatar": "two"}, 404),
        ({}, 422),
        ({"avatar": "one", "fps": "fast"}, 422),
        ({"avatar": "one", "fps": 5}, 422),
        ({"avatar": "one", "lead": 99}, 422),
        ({"avatar": "one", "audio": "/etc/passwd"}, 422),
        ({"avatar": "one", "more": 1}, 422),
        ({"avatar": "x" * 70_000}, 413),
    ],
)
def test_a_session_that_cannot_be_is_refused(client: Client, service: Service, body: dict, code: int) -> None:
    status, answer = client.ask("POST", "/v1/sessions", body)
    assert (status, set(answer["error"])) == (code, {"code", "message"})
    assert not service.sessions.running


def test_a_session_is_begun_by_json_alone(client: Client, service: Service) -> None:
    for body, headers, code in [
        ('{"avatar": "one"}', {"Content-Type": "text/plain"}, 422),  # a page elsewhere could send it
        ('{"avatar": ', {"Content-Type": "application/json"}, 422),
        (iter([b"{}"]), {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}, 411),
    ]:
        status, answer = client.ask("POST", "/v1/sessions", body, **headers)
        assert (status, set(answer["error"])) == (code, {"code", "message"})
    assert not service.sessions.running


def test_clips_as_they_are_found_are_taken(client: Client) -> None:
    """Joined Ogg with other channels, a length that a pipe's writer made up, and integers written as floats."""
    one, other = (encoded("libopus", "ogg", layout) for layout in ("mono", "stereo"))
    wav = encoded("pcm_s16le", "wav", "mono")
    length = wav.index(b"data") + 4
    floats = encoded("pcm_f32le", "wav", "mono", 32768.0)
    path = client.begin()
    for clip in (one + other, wav[:length] + b"\xff\xff\xff\x7f" + wav[length + 4 :], floats):
        status, answer = client.ask("POST", f"{path}/audio", clip)
        assert (status, answer["seconds"] > 0.4) == (202, True), answer
    client.ask("DELETE", path)


def encoded(codec: str, container: str, layout: str, scale: float = 1.0) -> bytes:
    """Half a second of voice."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=48_000, layout=layout)
        samples = np.repeat(voice(0.5, 48_000) / np.float32(32768) * scale, 2 if layout == "stereo" else 1)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48_000, 0
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=48_000)
        for part in resampler.resample(frame):
            opened.mux(stream.encode(part))
        opened.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("name", ["text.wav", "empty.wav", "silent.wav", "mute.mp4", "list.m3u8"])
def test_a_clip_that_is_no_audio_is_refused(client: Client, bad_audio: Path, name: str) -> None:
    path = client.begin()
    status, answer = client.ask("POST", f"{path}/audio", (bad_audio / name).read_bytes())
    assert status == 422
    assert "tmp" not in answer["error"]["message"]
    assert client.ask("GET", path)[1]["queued"] == 0


def test_a_clip_too_large_or_too_long_is_refused(
    client: Client, service: Service, speech: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.begin()
    monkeypatch.setattr(service, "settings", replace(service.settings, clip_bytes=1000))
    assert client.ask("POST", f"{path}/audio", bytes(2000))[0] == 413
    monkeypatch.undo()
    monkeypatch.setattr(service, "settings", replace(service.settings, clip_seconds=0.5))
    status, answer = client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())
    assert (status, "longer than" in answer["error"]["message"]) == (422, True)


def test_sessions_beyond_capacity_are_refused_until_one_ends(client: Client, service: Service) -> None:
    paths = [client.begin(fps=15) for _ in range(SESSIONS)]
    assert client.ask("GET", "/readyz")[1] == {"status": "ready", "free": service.free}
    with client.request("POST", "/v1/sessions", {"avatar": "one", "fps": 60}) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
    end(client, paths[0])
    until(lambda: len(service.sessions.running) < SESSIONS, "one session ends")
    client.begin(fps=15)


def test_an_error_in_generation_ends_that_session_alone(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = client.begin(), client.begin()
    session = service.sessions.get(path.rpartition("/")[2])
    viewer, bystander = Viewer(client, path), Viewer(client, other)
    events = client.events(path)
    next(events)
    until(lambda: session.frames > 10, "frames")

    def fail(_: Fragment) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(session.window, "append", fail)
    viewer.join(60)
    assert viewer.cut
    *_, (name, last) = events
    assert (name, last["state"], last["error"]) == ("state", "failed", "the session failed: ZeroDivisionError")
    assert client.ask("GET", path)[1]["state"] == "failed"
    assert client.ask("GET", f"{path}/stream.mp4?from=99999")[0] == 416
    assert [client.ask("POST", f"{path}/{what}")[0] for what in ("audio", "interrupt")] == [409, 409]
    assert not bystander.cut
    end(client, other, bystander)


def test_it_answers_while_it_generates_and_tells_figures(client: Client, speech: Callable) -> None:
    path = client.begin()
    client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())
    until(lambda: counter(client, "batches_total") > 0, "it speaks")
    until(lambda: generated(client, path) > 1, "a second of stream")
    assert client.ask("GET", "/healthz") == (200, {"status": "ok"})
    assert counter(client, "sessions") == 1
    assert counter(client, "first_fragment_seconds_count") > 0
    figures = client.ask("GET", "/metrics")[1]
    assert counter_in(figures, "faces_total") >= counter_in(figures, "batches_total") > 0
    for stage in ("audio_encoder", "generate", "compose", "encode", "encode_sound", "mux"):
        assert counter(client, f'stage_seconds_total{{stage="{stage}"}}') > 0
        assert counter(client, f'stage_frames_total{{stage="{stage}"}}') > 0
    names = [name for name, _ in zip_until(client.events(path), "buffer")]
    assert names[0] == "state"
    avatars = client.ask("GET", "/v1/avatars")[1]
    assert [[avatar[key] for key in ("name", "state", "bundles")] for avatar in avatars] == [
        ["one", "ready", ["default"]]
    ]


def zip_until(events: Iterator[tuple[str, Any]], last: str) -> Iterator[tuple[str, Any]]:
    for event in events:
        yield event
        if event[0] == last:
            return


def test_a_session_that_nobody_uses_ends(client: Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    path = client.begin()
    monkeypatch.setattr(service, "settings", Settings(idle=0.5))
    until(lambda: client.ask("GET", path)[0] == 404, "it ends")


def test_the_page_and_the_api_are_described_and_confined(client: Client) -> None:
    for name in ("", "app.js", "player.js", "api.js", "token.js", "style.css", "icon.svg", "api.html", "reference.js"):
        with client.request("GET", f"/{name}") as answer:
            content = answer.read().decode()
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "://" not in content.replace("http://www.w3.org/2000/svg", "")
    description = client.ask("GET", "/v1/openapi.json")[1]
    assert description["components"]["schemas"]["LiveSession"]["examples"]
    assert {"/v1/sessions", "/v1/sessions/{id}/stream.mp4", "/metrics"} <= set(description["paths"])
    assert client.ask("GET", "/docs")[0] == 404
