"""The page for a screen, in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.browser import BROWSER, browsing
from helpers.service_client import Client, serving, until
from helpers.tcp_proxy import TcpProxy
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")

SOUND = "--autoplay-policy=no-user-gesture-required"
FILLS = """(({left, top, width, height}) => [left, top, width, height].join() ===
  [0, 0, innerWidth, innerHeight].join())(v.getBoundingClientRect())"""
WANTS_A_CLICK = """const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  return this.muted ? play.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
};"""  # as Chromium does by itself, but for pages that DevTools has run scripts in, which it takes for clicks
Opened = tuple[Bundle, Avatar]


@pytest.fixture
def opened(bundle: Path, avatar: Path) -> Iterator[Opened]:
    with Bundle.open(bundle) as engines, Avatar.open(avatar) as face:
        yield engines, face


def service_of(opened: Opened) -> Service:
    return Service(opened[0], {"one": opened[1]}, Settings(sessions=2))


def test_it_fills_the_screen_and_comes_back_when_the_service_was_started_again(opened: Opened, tmp_path: Path) -> None:
    with serving(service_of(opened)) as first, TcpProxy(first.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/player?avatar=one"
        with browsing(url, tmp_path / "profile", SOUND, ready=False) as page:
            page.until("window.v?.currentTime > 0.5")
            assert page.run(FILLS)
            assert page.run("document.querySelectorAll('button, input, a, select').length") == 0
            assert page.run("[v.controls, v.muted, getComputedStyle(document.body).cursor]") == [False, False, "none"]
            assert page.text("status") == ""
            page.run("v.dataset.before = v.src")
            proxy.stop()
            with serving(service := service_of(opened)) as second:
                proxy.aim(second.port)
                proxy.start()
                page.until("v.src !== v.dataset.before && v.currentTime > 0.5")
                assert [session.pairing.avatar for session in service.sessions.running] == ["one"]
                assert page.run("problems") == []
                page.call("Page.navigate", url="about:blank")
                until(lambda: not service.sessions.running, "a page that is left ends its own session")


def test_it_waits_for_the_session_of_another_and_leaves_it_running(
    opened: Opened, speech: Callable[[float], Path], tmp_path: Path
) -> None:
    with serving(service := service_of(opened)) as server:
        client = Client(server.port)
        base = f"http://127.0.0.1:{server.port}/player"
        with browsing(f"{base}?session=none", tmp_path / "profile", ready=False) as page:
            page.until("document.getElementById('status')?.textContent.startsWith('No such session')")
            path = client.begin()
            page.call("Page.addScriptToEvaluateOnNewDocument", source=WANTS_A_CLICK)
            page.call("Page.navigate", url=f"{base}?session={path.rpartition('/')[2]}")
            page.until("window.v?.currentTime > 0.3")
            assert page.run("v.muted")
            assert "--autoplay-policy" in page.text("status")
            assert client.ask("POST", f"{path}/audio", speech(1.0).read_bytes())[0] == 202
            page.call("Page.navigate", url="about:blank")
            until(lambda: service.sessions.viewers == 0, "it is left")
            assert client.ask("GET", path)[1]["state"] in ("idle", "speaking")


def test_a_token_in_the_fragment_opens_it_and_whoever_has_the_token_finds_the_session(
    opened: Opened, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    token, another = (add_token(file, name, None, None) for name in ("kiosk", "other"))
    with serving(service_of(opened), Access(Tokens(file))) as server:
        url = f"http://127.0.0.1:{server.port}/player?avatar=one#{token}"
        with browsing(url, tmp_path / "profile", SOUND, ready=False) as page:
            page.until("window.v?.currentTime > 0.3")
            assert token not in page.run("location.href")
            (session,) = Client(server.port, token).ask("GET", "/v1/sessions")[1]
            assert (session["avatar"], session["viewers"]) == ("one", 1)
            assert Client(server.port, another).ask("GET", "/v1/sessions") == (200, [])


def test_it_asks_for_a_face_where_none_is_named(opened: Opened, tmp_path: Path) -> None:
    with serving(service_of(opened)) as server:
        with browsing(f"http://127.0.0.1:{server.port}/player", tmp_path / "profile", ready=False) as page:
            page.until("document.getElementById('status')?.textContent.includes('?avatar=NAME')")
        status, answer = Client(server.port).ask("GET", "/v1/sessions")
        assert (status, answer["error"]["code"]) == (403, "no_token")
