"""The page, in a real browser."""

import sys
import time
import wave
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.browser import BROWSER, WATCH, Page, browsing
from helpers.media import moving_picture
from helpers.service_client import serving, until
from helpers.tcp_proxy import TcpProxy
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.signed_urls import LIFETIME_S, SignedUrls
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

AXE = Path(sys.prefix) / "node_modules" / "axe-core" / "axe.min.js"
TONE = 440  # Hz
BY_HTTP = WATCH + "delete window.RTCPeerConnection;"  # for what is to be cut: a conversation goes by WebRTC else
AUDIT = """axe.run().then(({violations}) => violations.filter(({impact}) => ["serious", "critical"].includes(impact))
  .map(({id, nodes}) => [id, nodes[0].html, nodes[0].failureSummary]))"""


@pytest.fixture
def shown(bundle: Path, avatar: Path) -> tuple[Path, Path]:
    """The bundle and the avatar of the service."""
    return bundle, avatar


@pytest.fixture
def service(shown: tuple[Path, Path], tmp_path: Path) -> Iterator[Service]:
    with Bundle.open(shown[0]) as b, Avatar.open(shown[1]) as a:
        yield Service(b, {"one": a}, Settings(sessions=2, avatar_folder=tmp_path / "avatars"))


@pytest.fixture
def server(service: Service) -> Iterator[Any]:
    with serving(service) as running:
        yield running


@pytest.fixture
def proxy(server: Any) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as running:
        yield running


@pytest.fixture
def page(proxy: TcpProxy, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """What the tests need of Chromium besides is their parameter."""
    options = getattr(request, "param", [])
    with browsing(f"http://127.0.0.1:{proxy.port}/", tmp_path / "profile", *options) as opened:
        yield opened


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV of one pitch, at another rate than the service's."""
    file = tmp_path_factory.mktemp("tone") / "tone.wav"
    samples = 9000 * np.sin(2 * np.pi * TONE * np.arange(4 * 44_100) / 44_100)
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, 44_100, 0, "NONE", ""))
        out.writeframes(samples.astype("<i2").tobytes())
    return file


@pytest.fixture
def microphone(tone: Path) -> list[str]:
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={tone}"]


def cut_streams(server: Any, everything: bool = False) -> None:
    """Close the sockets of all streams, or of everything, from the server's side."""

    def cut() -> None:
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            streams = cycle and cycle.scope["path"].endswith("stream.mp4") and not cycle.response_complete
            if everything or streams:
                connection.transport.abort()

    server.servers[0].get_loop().call_soon_threadsafe(cut)


def never_back(page: Page) -> bool:
    played = [time for time in page.run("times") if time > 0]
    return all(a <= b for a, b in pairwise(played))


def test_the_page_plays_through_three_cuts_and_never_goes_back(
    page: Page, server: Any, proxy: TcpProxy, service: Service, speech: Callable[[float], Path]
) -> None:
    page.choose("#clip", speech(6.0))
    page.click("play")
    page.until("v.currentTime > 0.5")
    session = service.sessions.running[0]

    def restart_the_proxy() -> None:
        proxy.stop()
        before = session.frames
        until(lambda: session.frames > before + 10, "it is made although nobody can watch")
        proxy.away = True
        proxy.start()
        until(lambda: session.frames > before + 15, "and while its server seems to be away")
        proxy.away = False

    def hide_the_tab() -> None:
        mine = page.call("Target.getTargetInfo")["targetInfo"]["targetId"]
        other = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.call("Target.activateTarget", targetId=other)
        page.call("Page.setWebLifecycleState", state="frozen")
        before = session.frames
        until(lambda: session.frames > before + 25, "it is made although nobody sees it")
        page.call("Page.setWebLifecycleState", state="active")
        page.call("Target.activateTarget", targetId=mine)

    for number, cut in enumerate((lambda: cut_streams(server), restart_the_proxy, hide_the_tab)):
        at = page.run("v.currentTime")
        cut()
        page.until(f"v.currentTime > {at} + 1")
        assert page.text("error") == "", number
    page.until("document.getElementById('figures').textContent.includes('reconnected')")
    assert page.run("v.webkitAudioDecodedByteCount") > 1000
    assert len(service.sessions.running) == 1
    until(lambda: session.events.subscribers, "the page listens again")
    session.events.publish("warning", message="it is still told")
    page.until("document.getElementById('notice').innerText === 'It is still told.'")
    before = page.run("v.currentTime")
    page.click("interrupt")
    page.ready()
    page.until(f"!v.paused && v.currentTime > {before} + 0.5")
    assert session.speech.queued <= 0.02
    page.click("end")
    until(lambda: not service.sessions.running, "the session ends")
    assert service.metrics.count("frames_total") == session.frames
    assert service.metrics.count("sessions_total") == 1
    assert never_back(page)
    assert page.run("problems") == []


@pytest.mark.parametrize("shown", [(BUNDLE, AVATAR)], ids=["a mouth that opens"])
def test_an_interruption_is_seen(page: Page, service: Service) -> None:
    page.run("""window.inside = () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 512, height: 512 });
        const context = canvas.getContext("2d");
        context.drawImage(v, 0, 0);
        const { data } = context.getImageData(205, 300, 95, 75);
        let dark = 0;
        for (let n = 0; n < data.length; n += 4) dark += data[n] + data[n + 1] + data[n + 2] < 240;
        return dark;
    }; undefined""")
    page.run("""window.widest = 0; v.requestVideoFrameCallback(function look() {
        widest = Math.max(widest, inside());
        v.requestVideoFrameCallback(look);
    }); undefined""")
    page.choose("#clip", SPEECH)
    page.click("play")
    page.until("v.currentTime > 1 && widest > 450")  # pixels of a wide open mouth; a closed one has 180
    page.click("interrupt")
    page.ready()
    at = page.run("v.currentTime")
    page.run(f"""window.seen = []; v.requestVideoFrameCallback(function look(now, {{ mediaTime }}) {{
        if (mediaTime > {at} + 0.3) seen.push(inside());
        v.requestVideoFrameCallback(look);
    }}); undefined""")
    page.until("seen.length > 25")
    assert page.run("Math.max(...seen)") < 300
    assert service.sessions.running[0].speech.queued <= 0.02
    assert never_back(page)


def test_an_error_is_said_and_gives_the_controls_back(
    page: Page, service: Service, bad_audio: Path, speech: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page.choose("#clip", bad_audio / "text.wav")
    page.click("play")
    page.until("document.getElementById('error').innerText.includes('ot an audio file')")
    page.choose("#clip", speech(2.0))
    page.click("play")
    page.until("v.currentTime > 0.5")

    def fail(_: Any) -> None:
        raise RuntimeError("the engine is gone")

    monkeypatch.setattr(service.sessions.running[0].window, "append", fail)
    page.until("document.getElementById('error').innerText.includes('session failed')")
    monkeypatch.undo()
    assert page.run("document.querySelectorAll('#avatars input:enabled').length") == 1
    page.click("play")
    page.until("document.getElementById('error').hidden && v.currentTime > 0.3")
    assert page.run("problems") == []


def test_it_joins_again_when_it_was_away_for_longer_than_the_window(page: Page, server: Any, service: Service) -> None:
    page.click("play")
    page.until("v.currentTime > 0.5")
    session = service.sessions.running[0]
    session.window.seconds = 0.3
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    cut_streams(server)
    away = session.frames + 50
    until(lambda: session.frames > away, "the stream goes on")
    page.call("Network.emulateNetworkConditions", offline=False, **offline)
    page.until(f"v.currentTime > {away / 25}")
    assert page.text("error") == ""
    assert never_back(page)


def test_without_mse_the_browser_plays_the_address(
    page: Page, service: Service, speech: Callable[[float], Path]
) -> None:
    page.run("self.MediaSource = undefined; self.ManagedMediaSource = undefined")
    page.choose("#clip", speech(2.0))
    page.click("play")
    page.until("v.currentTime > 1")
    assert page.run("v.currentSrc").endswith("stream.mp4")
    service.sessions.running[0].stop()
    page.until("document.getElementById('status').innerText.includes('has ended')")
    assert page.text("error") == ""


def pitch(pcm: bytes) -> float:
    """The strongest frequency of PCM at 16 kHz, in Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 16_000 / len(samples))


def test_the_microphone_is_heard_live_and_recorded(
    service: Service, proxy: TcpProxy, tmp_path: Path, microphone: list[str]
) -> None:
    url = f"http://127.0.0.1:{proxy.port}/"
    with browsing(url, tmp_path / "profile", *microphone, script=BY_HTTP) as page:
        page.call("Browser.setPermission", permission={"name": "microphone"}, setting="denied")
        page.click("live")
        page.until("document.getElementById('error').innerText.includes('microphone was refused')")
        page.call("Browser.setPermission", permission={"name": "microphone"}, setting="granted")
        session = service.sessions.running[0]
        heard = bytearray()
        push = session.speech.push
        session.speech.push = lambda piece, *limit: (heard.extend(piece.speech.tobytes()), push(piece, *limit))[1]  # type: ignore[method-assign]
        page.click("live")
        until(lambda: len(heard) > 32_000, "a second is heard")
        proxy.stop()
        heard.clear()
        proxy.start()
        until(lambda: len(heard) > 48_000, "it is heard again after the connection was cut")
        assert pitch(bytes(heard[16_000:48_000])) == pytest.approx(TONE, abs=3)
        assert page.text("live") == "Stop speaking"
        page.until("document.getElementById('level').value > 0.2 && v.currentTime > 1")
        page.click("live")
        until(lambda: not session.has_audio_socket, "the socket is closed")
        assert page.text("error") == ""
        page.click("record")
        page.until("document.getElementById('recorded').innerText >= '0:01'")
        page.click("record")
        page.until("document.getElementById('clip-name').innerText.startsWith('Recording 0:')")
        heard.clear()
        page.click("play")
        until(lambda: len(heard) > 30_000, "the recording is said")
        assert pitch(bytes(heard[:30_000])) == pytest.approx(TONE, abs=3)
        assert page.run("problems") == []


def test_a_face_is_made_on_the_page_by_keyboard(page: Page, service: Service, tmp_path: Path) -> None:
    photo = tmp_path / "My photo.png"
    cv2.imwrite(str(photo), moving_picture(0))
    page.run("document.getElementById('add').focus()")
    page.key("Enter", 13, "\r")
    page.until("document.getElementById('new').open")
    page.choose("#new-file", photo)
    page.until("document.getElementById('new-name').value === 'My-photo'")
    page.run("document.getElementById('new-name').focus()")
    page.key("Enter", 13, "\r")
    page.until("document.getElementById('new-error').innerText.includes('no face detector')")
    assert page.run("document.activeElement.id") == "new-name"
    page.until("document.getElementById('picture').width === 320")
    for name, value in zip(("x0", "y0", "x1", "y1"), (200, 60, 320, 220), strict=True):
        page.run(f"document.getElementById('{name}').focus()")
        for digit in str(value):
            page.key(digit, ord(digit), digit)
    page.key("Enter", 13, "\r")
    page.until("document.getElementById('new-status').innerText.includes('is ready')")
    assert list(service.avatars) == ["one", "My-photo"]
    assert page.run("document.activeElement.id") == "cancel"
    page.key("Enter", 13, "\r")
    page.until("!document.getElementById('new').open && document.activeElement.id === 'add'")
    assert page.run("document.querySelector('#avatars input:checked').value") == "My-photo"
    page.click("play")
    page.until("v.currentTime > 0.3")
    assert service.sessions.running[0].pairing.avatar == "My-photo"
    page.run("self.confirm = () => true; document.querySelector('.remove').click()")
    page.until("document.getElementById('error').innerText.includes('session uses')")
    page.click("end")
    until(lambda: not service.sessions.running, "the session ends")
    page.run("document.querySelector('.remove').click()")
    page.until("document.querySelectorAll('#avatars input').length === 1")
    assert list(service.avatars) == ["one"]
    assert page.run("problems") == []


def test_with_a_token_the_page_makes_a_face_and_speaks(service: Service, tmp_path: Path, microphone: list[str]) -> None:
    token = add_token(tmp_path / "tokens", "anna", None, None)
    enter = f"""setInterval(() => {{
        const field = document.getElementById("token");
        if (field) {{ field.value = "{token}"; field.form.requestSubmit(); }}
    }}, 50);"""
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), moving_picture(0))
    ahead = [0.0]  # seconds, of the clock that URLs expire by
    access = Access(Tokens(tmp_path / "tokens"), signed_urls=SignedUrls(lambda: time.monotonic() + ahead[0]))
    options = [*microphone, "--use-fake-ui-for-media-stream"]
    with serving(service, access) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with browsing(url, tmp_path / "profile", *options, script=BY_HTTP + enter) as page:
            page.click("add")
            page.choose("#new-file", photo)
            page.until("document.getElementById('new-name').value === 'photo'")
            page.run(
                "['x0', 'y0', 'x1', 'y1'].forEach((id, n) => document.getElementById(id).value = [9, 9, 200, 200][n])"
            )
            page.click("make")
            page.until("document.getElementById('new-status').innerText.includes('is ready')")
            page.click("cancel")
            page.click("live")
            page.until("v.currentTime > 0.5")
            session = service.sessions.running[0]
            until(lambda: session.speech.speaking, "the microphone is heard")
            ahead[0] += LIFETIME_S + 1  # all addresses expire
            told = session.events.subscriptions
            cut_streams(server, everything=True)
            until(lambda: not session.has_audio_socket, "nobody speaks")
            until(lambda: session.has_audio_socket and session.speech.speaking, "the microphone is heard again")
            until(lambda: session.events.subscriptions > told, "it listens again")

            def still_told() -> bool:  # a warning of its own, that playback had to wait, may take the place of ours
                session.events.publish("warning", message="it is still told")
                shown: bool = page.text("notice") == "It is still told."
                return shown

            until(still_told, "it is told of events")
            at = page.run("v.currentTime")
            page.until(f"v.currentTime > {at} + 0.3")
            assert page.text("error") == ""
            assert page.run("problems") == []


def test_nothing_hinders_a_screen_reader(page: Page, speech: Callable[[float], Path]) -> None:
    if not AXE.is_file():
        pytest.skip(f"no axe-core here: npm install --prefix {sys.prefix} axe-core")
    page.run(AXE.read_text(encoding="utf-8") + "; undefined")
    for scheme in ("light", "dark"):
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        page.call("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in features.items()])
        assert page.run(AUDIT) == [], scheme
    page.choose("#clip", speech(2.0))
    page.click("play")
    page.until("v.currentTime > 0.5")
    assert page.run(AUDIT) == []
    page.run("document.getElementById('new-error').hidden = false; document.getElementById('add').click()")
    assert page.run(AUDIT) == []
