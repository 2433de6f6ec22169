"""The page's conversation by WebRTC, in a real browser with a microphone that says the demo's speech."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiortc", reason="needs the extra webrtc")

from helpers.browser import BROWSER, WATCH, Page, browsing
from helpers.service_client import Client, end_sessions, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

MICROPHONE = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    f"--use-file-for-fake-audio-capture={SPEECH}",
]
FIGURES = "document.getElementById('figures').textContent"
NO_ICE = "RTCPeerConnection.prototype.setRemoteDescription = async () => {};"
NO_WEBRTC = "delete window.RTCPeerConnection;"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Bundle.open(BUNDLE) as b, Avatar.open(AVATAR) as a:
        yield Service(b, {"one": a}, Settings(sessions=2))


@pytest.fixture
def page(server: Any, service: Service, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """What runs before the page's scripts is the tests' parameter."""
    url, before = f"http://127.0.0.1:{server.port}/", getattr(request, "param", "")
    with browsing(url, tmp_path / "profile", *MICROPHONE, script=before + WATCH) as opened:
        yield opened
    end_sessions(service)


def test_one_click_and_the_face_says_what_the_microphone_hears(page: Page, service: Service) -> None:
    page.click("live")
    page.until("v.srcObject && v.videoWidth > 0")
    session = service.running[0]
    assert session.lead == 0
    until(lambda: session.peers, "it is watched by WebRTC")
    until(lambda: session.has_audio_socket, "it is heard")
    page.until(f"{FIGURES}.startsWith('WebRTC') && /answers in .* seen/.test({FIGURES})")
    page.until("document.getElementById('state').textContent === 'Speaking'")
    page.click("interrupt")
    page.until(f"/silent in .* seen/.test({FIGURES})")
    page.click("live")
    until(lambda: not session.has_audio_socket, "it is heard no more")
    page.click("end")
    until(lambda: service.viewers == 0 and not service.running, "all is over")
    assert page.run("problems") == []


def test_a_connection_that_is_lost_is_made_anew(page: Page, service: Service, server: Any) -> None:
    page.click("live")
    page.until("v.srcObject && v.videoWidth > 0")
    session = service.running[0]
    until(lambda: session.has_audio_socket, "it is heard")
    (first,) = session.peers
    assert Client(server.port).ask("DELETE", f"/v1/sessions/{session.id}/whep/{first}")[0] == 204
    until(lambda: session.peers and first not in session.peers, "it is watched anew")
    page.until(f"{FIGURES}.includes('1 reconnected') && {FIGURES}.startsWith('WebRTC')")
    until(lambda: session.has_audio_socket, "it is heard again")
    assert page.run("problems") == []


@pytest.mark.parametrize("page", [NO_ICE, NO_WEBRTC], indirect=True)
def test_where_it_does_not_get_through_the_page_plays_a_stream(page: Page, service: Service) -> None:
    page.click("live")
    page.until("v.src.startsWith('blob:') && v.currentTime > 0.5")
    session = service.running[0]
    until(lambda: session.has_audio_socket, "it is heard")
    page.until(f"{FIGURES}.startsWith('HTTP')")
    assert not session.peers
    assert page.run("problems") == []


def test_a_session_that_plays_as_a_stream_becomes_a_conversation(page: Page, service: Service) -> None:
    page.click("demo")
    page.until("document.getElementById('state').textContent === 'Speaking'")
    page.click("live")
    session = service.running[0]
    page.until("v.srcObject && v.videoWidth > 0")
    until(lambda: session.has_audio_socket, "it is heard")
    assert page.run("problems") == []


def test_a_session_that_ends_is_told(page: Page, service: Service) -> None:
    page.click("live")
    page.until("v.srcObject && v.videoWidth > 0")
    service.running[0].stop()
    page.until("document.getElementById('status').textContent.includes('has ended')")
    page.until("document.getElementById('live').textContent.includes('Speak live')")
    assert page.run("problems") == []
