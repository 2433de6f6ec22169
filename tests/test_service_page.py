"""The page, in a real browser."""

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings
from service_helpers import serving, until
from test_browser import BROWSER

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
]  # fmt: skip

WATCH = """
window.times = []; window.problems = []; window.waits = 0;
const v = document.getElementById("video");
setInterval(() => times.push([v.currentTime, v.seeking]), 20);
v.addEventListener("waiting", () => waits++);
addEventListener("error", event => problems.push(event.message));
addEventListener("unhandledrejection", event => problems.push(String(event.reason)));
"""


class Page:
    """One tab, by Chrome's DevTools protocol."""

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self._socket = socket
        self._number = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a script, awaited, as if a person had just clicked."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str, seconds: float = 20.0) -> None:
        try:
            until(lambda: self.run(f"Boolean({script})"), script, seconds)
        except AssertionError:
            raise AssertionError(f"{script}: {self.run('document.body.innerText')}") from None

    def drop(self, selector: str, file: Path) -> None:
        """Choose `file` in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session := getattr(self, "_session", None):
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while (answer := json.loads(self._socket.recv(timeout=30))).get("id") != self._number:
            pass
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result


@pytest.fixture
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=2))


@pytest.fixture
def server(service: Service) -> Iterator[Any]:
    with serving(service) as running:
        yield running


@pytest.fixture
def page(server: Any, tmp_path: Path) -> Iterator[Page]:
    assert BROWSER
    command = [BROWSER, *OPTIONS, f"--user-data-dir={tmp_path}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            until(lambda: len(devtools(tmp_path)) == 2, "Chromium starts", 60)
            port, path = devtools(tmp_path)
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
                opened = Page(socket, f"http://127.0.0.1:{server.port}/")
                opened.until("document.querySelectorAll('#avatar option').length")
                opened.run(WATCH)
                yield opened
        finally:
            browser.terminate()


def devtools(folder: Path) -> list[str]:
    """The port and the path of Chromium's DevTools, once they are there."""
    file = folder / "DevToolsActivePort"
    return file.read_text().split() if file.exists() else []


def cut_streams(server: Any) -> None:
    """Close the sockets of all streams, from the server's side."""

    def cut() -> None:
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle and cycle.scope["path"].endswith("stream.mp4") and not cycle.response_complete:
                connection.transport.abort()

    server.servers[0].get_loop().call_soon_threadsafe(cut)


def test_the_page_plays_through_cuts_and_never_goes_back(
    page: Page, server: Any, service: Service, speech: Callable[[float], Path]
) -> None:
    page.drop("#clip", speech(6.0))
    page.run("document.getElementById('play').click()")
    page.until("v.currentTime > 0.5")
    session = service.running[0]
    for n in range(3):
        cut_streams(server)
        at = page.run("v.currentTime")
        page.until(f"v.currentTime > {at} + 1")
        assert page.run("document.getElementById('error').hidden"), n
    assert "reconnected" in page.run("document.getElementById('figures').textContent")
    assert page.run("v.webkitAudioDecodedByteCount") > 1000
    assert len(service.running) == 1
    before, frames = page.run("v.currentTime"), session.frames
    page.run("document.getElementById('interrupt').click()")
    page.until(f"!v.paused && v.currentTime > {before} + 0.5")
    assert session.feeder.queued <= 0.02
    assert frames <= session.frames
    page.run("document.getElementById('end').click()")
    until(lambda: not service.running, "the session ends")
    assert service.metrics.count("frames_total") == session.frames
    assert service.metrics.count("sessions_total") == 1
    times = page.run("times.map(([time]) => time)")
    played = [t for t in times if t > 0]
    assert all(a <= b for a, b in pairwise(played))
    assert page.run("problems") == []


def test_an_error_is_said_and_gives_the_controls_back(
    page: Page, service: Service, bad_audio: Path, speech: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page.drop("#clip", bad_audio / "text.wav")
    page.run("document.getElementById('play').click()")
    page.until("document.getElementById('error').innerText.includes('not an audio file')")
    assert page.run("!document.getElementById('play').disabled")
    page.drop("#clip", speech(2.0))
    page.run("document.getElementById('play').click()")
    page.until("v.currentTime > 0.5")

    def fail(_: Any) -> None:
        raise RuntimeError("the engine is gone")

    monkeypatch.setattr(service.running[0], "_publish", fail)
    page.until("document.getElementById('error').innerText.includes('session failed')")
    page.until("!document.getElementById('play').disabled && !document.getElementById('avatar').disabled")
    monkeypatch.undo()
    page.run("v.currentTime = 0; document.getElementById('play').click()")
    page.until("document.getElementById('error').hidden && v.currentTime > 0.3")
    assert page.run("problems") == []


def test_it_joins_again_when_it_was_away_for_longer_than_the_window(
    page: Page, server: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.run("document.getElementById('play').click()")
    page.until("v.currentTime > 0.5")
    session = service.running[0]
    monkeypatch.setattr(session.window, "_seconds", 0.3)
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    cut_streams(server)
    away = session.frames + 50
    until(lambda: session.frames > away, "the stream goes on")
    page.call("Network.emulateNetworkConditions", offline=False, **offline)
    page.until(f"v.currentTime > {away / 25}")
    assert page.run("document.getElementById('error').hidden")
    assert page.run("times.every(([time], n) => n === 0 || time >= times[n - 1][0])")


def test_without_mse_the_browser_plays_the_address(
    page: Page, service: Service, speech: Callable[[float], Path]
) -> None:
    page.run("self.MediaSource = undefined; self.ManagedMediaSource = undefined")
    page.drop("#clip", speech(2.0))
    page.run("document.getElementById('play').click()")
    page.until("v.currentTime > 1")
    assert page.run("v.currentSrc").endswith("stream.mp4")
    service.running[0].stop()
    page.until("document.getElementById('status').innerText.includes('has ended')")
    assert page.run("document.getElementById('error').hidden")
