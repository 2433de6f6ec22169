"""The service behind a proxy, under a prefix: the examples, as they are."""

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from helpers.browser import BROWSER, Page, browsing
from helpers.media import voice
from helpers.paths import ROOT
from helpers.proxy import Proxy, nginx_of_example
from helpers.service_client import Client, HeldPort, Viewer, end_sessions, serving, until
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service

pytestmark = pytest.mark.slow

PREFIX = "/face"


def nginx(folder: Path, service: int, port: int) -> list[str]:
    changes = {"127.0.0.1:8787": f"127.0.0.1:{service}", "listen 8080": f"listen 127.0.0.1:{port}"}
    return nginx_of_example("nginx.conf", folder, changes)


def node(_: Path, service: int, port: int) -> list[str]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("no Node here: apt-get install nodejs")
    return [program, str(ROOT / "examples" / "proxy.mjs"), str(port), f"http://127.0.0.1:{service}", PREFIX]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    return add_token(file, "anna", None, None), file


@pytest.fixture(scope="module")
def server(service: Service, token: tuple[str, Path]) -> Iterator[Any]:
    with serving(service, Access(Tokens(token[1]), root_path=PREFIX)) as running:
        yield running


@pytest.fixture
def proxy(request: pytest.FixtureRequest, server: Any, service: Service, tmp_path: Path) -> Iterator[Proxy]:
    with HeldPort() as held:
        running = Proxy(held.port, lambda port: request.param(tmp_path, server.port, port), tmp_path)
        yield running
        running.stop()
    end_sessions(service)


@pytest.mark.parametrize("proxy", [nginx, node], indirect=True)
def test_a_viewer_goes_on_without_a_gap_when_the_proxy_restarts(
    proxy: Proxy, server: Any, service: Service, token: tuple[str, Path], speech: Callable[[float], Path]
) -> None:
    client, direct = Client(proxy.port, token[0], PREFIX), Client(server.port, token[0])
    path = client.begin()
    assert client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())[0] == 202
    whole, viewer = Viewer(direct, path), Viewer(client, path)
    assert viewer.answer.headers["Stream-Offset"] is not None
    until(lambda: len(viewer.data) > 3000, "fragments come through while they are made")
    assert service.sessions.running[0].running
    proxy.stop()
    viewer.join(60)
    assert viewer.cut
    proxy.start()
    again = Viewer(client, path, Range=f"bytes={viewer.end}-")
    assert (again.status, again.offset) == (206, viewer.end)
    until(lambda: len(again.data) > 3000, "it goes on")
    assert client.ask("DELETE", path) == (204, "")
    for watching in (whole, again):
        watching.join(60)
    assert viewer.data + again.data == whole.data[viewer.offset - whole.offset :]
    assert not again.cut


@pytest.mark.parametrize("proxy", [nginx, node], indirect=True)
def test_sockets_events_and_refusals_come_through(
    proxy: Proxy, service: Service, token: tuple[str, Path], speech: Callable[[float], Path]
) -> None:
    client, stranger = Client(proxy.port, token[0], PREFIX), Client(proxy.port)
    assert stranger.ask("GET", f"{PREFIX}/")[1].startswith("<!doctype html>")
    with stranger.request("GET", PREFIX) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, f"{PREFIX}/")
    assert stranger.ask("GET", "/v1/avatars")[0] in (403, 404)  # of the proxy itself
    path = client.begin()
    session = client.ask("GET", path)[1]
    assert session["audio"].startswith(f"{PREFIX}{path}/audio?")
    base = f"ws://127.0.0.1:{proxy.port}"
    with connect(base + session["audio"], origin=f"http://127.0.0.1:{proxy.port}") as audio:
        audio.send(voice(8.0).astype("<i2").tobytes())  # more than the lead: for a while, some waits
        until(lambda: service.sessions.running[0].state == "speaking", "it speaks")
    with pytest.raises(InvalidStatus) as refused, connect(f"{base}{PREFIX}{path}/audio"):
        pass
    assert refused.value.response.status_code == 401
    with stranger.request("GET", session["events"]) as answer:
        assert answer.readline() == b"event: state\n"
    assert client.ask("POST", f"{path}/audio", speech(60.0).read_bytes())[1]["seconds"] == pytest.approx(60, abs=0.1)
    body = {"avatar": "one"}
    assert client.ask("POST", "/v1/sessions", body, Origin="https://evil.example")[0] == 403


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("proxy", [nginx], indirect=True)
def test_the_page_takes_a_token_and_plays_on_when_the_proxy_restarts(
    proxy: Proxy, service: Service, token: tuple[str, Path], speech: Callable[[float], Path], tmp_path: Path
) -> None:
    with browsing(f"http://127.0.0.1:{proxy.port}{PREFIX}/", tmp_path / "profile", ready=False) as page:
        for text in ("wrong", token[0]):
            page.until("document.querySelector('dialog[open]')")
            page.run(f"document.getElementById('token').value = '{text}'")
            page.run("document.querySelector('dialog[open] button').click()")
            page.until("!document.getElementById('token') || document.getElementById('token').value === ''")
        page.ready()
        play_on(page, proxy, service, speech(6.0))
    until(lambda: not service.sessions.running, "the session ends with its page")


def play_on(page: Page, proxy: Proxy, service: Service, clip: Path) -> None:
    page.choose("#clip", clip)
    page.click("play")
    page.until("v.currentTime > 0.5")
    session = service.sessions.running[0]
    before = service.metrics.count("sessions_total")
    for _ in range(2):
        proxy.stop()
        time.sleep(0.5)
        proxy.start()
        at = page.run("v.currentTime")
        page.until(f"v.currentTime > {at} + 1")
    assert page.run("document.getElementById('error').hidden")
    assert page.run("v.buffered.length") == 1  # without a gap
    page.until("document.getElementById('figures').textContent.includes('reconnected')")  # events come back, too
    assert all(a <= b for a, b in pairwise(page.run("times")))
    assert service.metrics.count("sessions_total") == before
    assert page.run("problems") == []
    page.click("end")
    until(lambda: not session.running, "it ends")
