"""A real browser plays a stream over HTTP while it is made."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.browser import BROWSER
from musetalk_runtime import Avatar, Bundle, Session

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

PAGE = """<!doctype html><video id=v muted autoplay src=/talk.mp4></video><script>
const seen = [];
const report = what => seen.push([what, v.currentTime, v.videoWidth, v.videoHeight]);
v.addEventListener("playing", () => fetch("/playing", {method: "POST", body: ""}), {once: true});
for (const name of ["playing", "timeupdate", "stalled", "waiting"]) v.addEventListener(name, () => report(name));
const end = what => { report(what); fetch("/report", {method: "POST", body: JSON.stringify({
  seen, error: v.error && v.error.message, duration: v.duration,
  frames: v.getVideoPlaybackQuality().totalVideoFrames,
  sound: v.webkitAudioDecodedByteCount})}); };
v.addEventListener("ended", () => end("ended"));
v.addEventListener("error", () => end("error"));
v.play();  // as soon as it can: by itself it waits until it takes all to come in time
</script>"""


class Theatre(ThreadingHTTPServer):
    """Serves the page, a stream that is made as it is sent, and takes the page's report."""

    daemon_threads = True

    def __init__(self, make: Callable[[], Session]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.make = make
        self.streams = 0
        self.playing = threading.Event()
        self.played_before_the_end = False
        self.report: dict = {}
        self.reported = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Theatre
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/talk.mp4":
            self._stream()
        elif self.path == "/":
            self._answer(200, PAGE.encode())
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        if self.path == "/playing":
            self.server.playing.set()
            self._answer(204, b"")
            return
        self.server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(204, b"")
        self.server.reported.set()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.server.streams += 1
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.server.make() as session:
            for data in session.stream():
                if session.frames_made > 75:  # of 100: the last second is made once the browser plays
                    self.server.played_before_the_end = self.server.playing.wait(100)
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def theatre(bundle: Path, avatar: Path, speech: Callable[[float], Path]) -> Iterator[Theatre]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, Theatre(lambda: Session(b, a, speech(4.0), 25)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_chromium_plays_the_stream_while_it_is_made(theatre: Theatre, tmp_path: Path) -> None:
    assert BROWSER
    url = f"http://127.0.0.1:{theatre.server_address[1]}/"
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", f"--user-data-dir={tmp_path}",
    ]  # fmt: skip
    with subprocess.Popen([BROWSER, *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            assert theatre.reported.wait(200), "the page never came to an end"
        finally:
            browser.terminate()
    report = theatre.report
    assert report["error"] is None
    assert report["seen"][-1][0] == "ended"
    assert report["frames"] >= 99  # a player may leave out the last
    assert report["sound"] > 1000
    assert report["duration"] == pytest.approx(4.0, abs=0.1)
    assert report["seen"][-1][2:4] == [320, 240]
    assert theatre.played_before_the_end
    assert theatre.streams == 1
