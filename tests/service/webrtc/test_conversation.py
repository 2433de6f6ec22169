"""The page's conversation by WebRTC, in a real browser with a microphone that says the demo's speech."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiortc", reason="needs the extra webrtc")

from helpers.browser import BROWSER, Page, browsing
from helpers.processes import EDGE, port_of
from helpers.service_client import Client, until
from helpers.whep_client import lose_paths
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.demo import SPEECH
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
SLOW_ICE = """const set = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = async function (answer) {
    await new Promise(done => setTimeout(done, 2600));
    return set.call(this, answer);
};"""
NO_WEBRTC = "delete window.RTCPeerConnection;"
PLAYS = "v.srcObject && v.videoWidth > 0"
SAID = """window.said = []; setInterval(() => {
    for (const id of ["state", "notice"]) {
        const { textContent } = document.getElementById(id);
        if (textContent && !said.includes(textContent)) said.push(textContent);
    }
}, 20); undefined"""
# Each notice, and what the badge says as it comes.
SAID_AT_ONCE = """window.said = []; new MutationObserver(() => {
    said.push(["notice", "state"].map(id => document.getElementById(id).textContent));
}).observe(document.getElementById("notice"), { childList: true, characterData: true, subtree: true }); undefined"""
# Five who watch the session at a path, each by the page's own player.
FIVE = """(async path => {
    const { WebRtcPlayer } = await import("/webrtc.js");
    const answer = await (await fetch(path)).json();
    window.five = Array.from({ length: 5 }, () => {
        const video = document.body.appendChild(Object.assign(document.createElement("video"), { muted: true }));
        const player = new WebRtcPlayer(video, answer, { onLost: text => problems.push(text) });
        return { video, player };
    });
})("%s")"""
DECODED = """Promise.all(five.map(async ({ player }) => [...(await player.connection.getStats()).values()]
    .find(({ type, kind }) => type === "inbound-rtp" && kind === "video").framesDecoded))"""


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=1))


@pytest.fixture(scope="module")
def browser_options() -> list[str]:
    return MICROPHONE


@contextmanager
def before_scripts(page: Page, script: str, url: str) -> Iterator[None]:
    """The page, loaded anew, in which `script` runs before its own."""
    added = page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    page.open(url)
    try:
        yield
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_one_click_and_the_face_says_what_the_microphone_hears(page: Page, service: Service) -> None:
    page.click("live")
    page.until(PLAYS)
    session = service.sessions.running[0]
    assert session.lead.seconds == 0
    until(lambda: session.audience.peers, "it is watched by WebRTC")
    until(lambda: session.has_audio_socket, "it is heard")
    page.until(f"{FIGURES}.startsWith('WebRTC') && /answers in .* seen/.test({FIGURES})")
    page.until("document.getElementById('state').textContent === 'Speaking'")
    page.click("interrupt")
    page.until(f"/silent in .* seen/.test({FIGURES})")
    page.click("live")
    until(lambda: not session.has_audio_socket, "it is heard no more")
    page.click("end")
    until(lambda: service.sessions.viewers == 0 and not service.sessions.running, "all is over")


def test_a_connection_that_is_ended_is_made_anew(page: Page, service: Service, server: Any) -> None:
    page.click("live")
    page.until(PLAYS)
    session = service.sessions.running[0]
    until(lambda: session.has_audio_socket, "it is heard")
    (first,) = session.audience.peers
    assert Client(server.port).ask("DELETE", f"/v1/sessions/{session.id}/whep/{first}")[0] == 204
    peers = session.audience.peers
    until(lambda: peers and first not in peers, "it is watched anew")
    page.until(f"/\\d reconnected/.test({FIGURES}) && {FIGURES}.startsWith('WebRTC')")
    until(lambda: session.has_audio_socket, "it is heard again")


def test_where_the_path_is_lost_the_page_says_so_and_takes_another(page: Page, service: Service) -> None:
    page.click("live")
    page.until(PLAYS)
    session = service.sessions.running[0]
    until(lambda: session.has_audio_socket, "it is heard")
    (first,) = session.audience.peers
    page.run(SAID_AT_ONCE)
    lose_paths(session)
    peers = session.audience.peers
    until(lambda: peers and first not in peers, "the old one is given back, and there is another")
    page.until(f"/\\d reconnected/.test({FIGURES}) && {FIGURES}.startsWith('WebRTC') && {PLAYS}")
    until(lambda: session.has_audio_socket, "it is heard again")
    assert ["The connection was lost and is made anew.", "Reconnecting"] in page.run("said")


def test_a_page_that_is_loaded_again_gives_its_connection_back(page: Page, service: Service) -> None:
    page.click("live")
    page.until(PLAYS)
    first = service.sessions.running[0]
    page.call("Page.reload")
    until(lambda: not first.audience.peers and not first.running, "its place is given back")
    page.ready()
    page.click("live")  # there is one place
    page.until(PLAYS)
    (second,) = service.sessions.running
    assert second is not first
    assert len(second.audience.peers) == 1


def test_five_watch_at_once(page: Page, service: Service, server: Any) -> None:
    path = Client(server.port).begin(lead=0)
    session = service.sessions.running[0]
    page.run(FIVE % path)
    page.until("five.every(({ video }) => video.videoWidth > 0)")
    assert len(session.audience.peers) == 5
    before = page.run(DECODED)
    until(lambda: min(b - a for a, b in zip(before, page.run(DECODED), strict=True)) > 20, "all see it move")
    page.run("five.forEach(({ player }) => player.close())")
    until(lambda: not session.audience.peers, "they are gone")


def test_a_connection_that_takes_seconds_is_waited_for(page: Page, server: Any) -> None:
    with before_scripts(page, SLOW_ICE, f"http://127.0.0.1:{server.port}/"):
        page.click("live")
        page.until(f"v.currentTime > 0.5 && {FIGURES}")
        assert page.run(FIGURES).startswith("WebRTC")


@pytest.mark.parametrize("missing", [NO_ICE, NO_WEBRTC])
def test_where_it_does_not_get_through_the_page_plays_a_stream(
    page: Page, service: Service, server: Any, missing: str
) -> None:
    with before_scripts(page, missing, f"http://127.0.0.1:{server.port}/"):
        page.click("live")
        page.until("v.src.startsWith('blob:') && v.currentTime > 0.5")
        session = service.sessions.running[0]
        until(lambda: session.has_audio_socket, "it is heard")
        page.until(f"{FIGURES}.startsWith('HTTP')")
        assert not session.audience.peers


def test_a_session_that_plays_as_a_stream_becomes_a_conversation(page: Page, service: Service) -> None:
    page.click("demo")
    page.until("document.getElementById('state').textContent === 'Speaking'")
    page.click("live")
    session = service.sessions.running[0]
    page.until(PLAYS)
    until(lambda: session.has_audio_socket, "it is heard")


def test_a_session_that_ends_is_told(page: Page, service: Service) -> None:
    page.click("live")
    page.until(PLAYS)
    service.sessions.running[0].stop()
    page.until("document.getElementById('status').textContent.includes('has ended')")
    page.until("document.getElementById('live').textContent.includes('Speak live')")


def test_a_service_that_is_killed_is_an_error_and_gives_the_controls_back(
    bundle: Path, avatar: Path, tmp_path: Path
) -> None:
    command = [*EDGE, "serve", "-b", str(bundle), "-a", f"one={avatar}", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
        try:
            url = f"http://127.0.0.1:{port_of(killed)}/"
            with browsing(url, tmp_path / "profile", *MICROPHONE) as page:
                page.click("live")
                page.until(PLAYS)
                page.run(SAID)
                killed.kill()
                page.until("!document.getElementById('error').hidden")
                assert page.text("error-text") == "The connection is lost."
                page.until("document.getElementById('live').getAttribute('aria-disabled') === 'false'")
                assert "Speak live" in page.text("live")
                assert "Reconnecting" in page.run("said")
                assert page.run("problems") == []
        finally:
            killed.kill()
