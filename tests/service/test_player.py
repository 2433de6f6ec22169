"""How the page plays: near the live edge, in a real browser. One service and one browser for all tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import BROWSER, Page
from helpers.service_client import Client, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.settings import Settings

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

BADGE = "document.getElementById('state').textContent"


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=1))


def begin(page: Page, service: Service) -> LiveSession:
    page.click("play")
    page.until(f"v.currentTime > 1 && {BADGE} === 'Listening'")
    return service.sessions.running[0]


def behind(page: Page, session: LiveSession) -> float:
    return session.clock.now() - float(page.run("v.currentTime"))


def test_after_a_pause_it_goes_on_with_what_is_live(page: Page, service: Service) -> None:
    session = begin(page, service)
    page.run("v.pause()")
    at = page.run("v.currentTime")
    until(lambda: session.clock.now() > at + 4, "the stream goes on")
    badge = page.text("state")
    page.run("v.play()")
    until(lambda: behind(page, session) < 1.5, "it is live again", 8)  # by hurrying alone it would take 12 s
    assert badge == "Paused"
    page.until(f"{BADGE} === 'Listening'")


def test_it_hurries_when_it_is_behind_until_it_is_not(page: Page, service: Service) -> None:
    session = begin(page, service)
    page.run("""window.rates = []; v.addEventListener("ratechange", () => rates.push(v.playbackRate));
        v.playbackRate = 0.25;
        Object.defineProperty(v, "playbackRate", { configurable: true, get: () => 0.25, set: () => {} });
        undefined""")
    until(lambda: behind(page, session) > 2, "it is behind")
    page.run("delete v.playbackRate; undefined")
    page.until(f"{BADGE} === 'Catching up' && v.playbackRate > 1")
    page.until(f"{BADGE} === 'Listening' && v.playbackRate === 1")
    until(lambda: behind(page, session) < 1, "it is near")
    rates = [rate for rate in page.run("rates") if rate > 1]
    assert 1.05 <= min(rates) <= max(rates) <= 1.2


def test_it_hurries_less_the_nearer_it_comes_and_never_without_a_buffer(page: Page) -> None:
    rates = page.run("""(async () => {
        const { LiveEdge } = await import("/live_edge.js");
        const edge = new LiveEdge();
        performance.now = () => 100_000;
        edge.hear({ generated: 60, ahead: 0 });
        const rates = [1.4, 2, 1.6, 1.2, 0.9, 0.6, 0.5, 1.4].map((behind) => edge.rate(60 - behind, 2));
        rates.push(edge.rate(58, 0.3));
        delete performance.now;
        return rates;
    })()""")
    assert rates == [1, 1.2, 1.2, 1.15, 1.1, 1.05, 1, 1, 1]


def test_a_picture_that_stands_still_is_nudged(page: Page, service: Service) -> None:
    begin(page, service)
    page.run("""window.at = v.currentTime; window.nudges = [];
        Object.defineProperty(v, "currentTime", { configurable: true, get: () => at, set: (to) => nudges.push(to) });
        undefined""")
    page.until("nudges.length > 1")
    assert page.run("nudges.every((to) => at < to && to < at + 0.5)")
    page.run("delete v.currentTime; undefined")


def test_the_badge_shows_what_is_seen_and_not_what_is_made(
    page: Page, service: Service, speech: Callable[[float], Path]
) -> None:
    page.run(f"""window.seen = []; setInterval(() => {{
        if (seen.at(-1)?.[0] !== {BADGE}) seen.push([{BADGE}, v.currentTime]);
    }}, 20); undefined""")
    page.choose("#clip", speech(5.0))
    page.click("play")
    until(lambda: service.sessions.running, "it begins")
    session = service.sessions.running[0]
    until(lambda: session.state == "speaking", "it speaks")
    until(lambda: session.state == "idle", "it is made")
    made = session.snapshot().content["at"]
    page.until("seen.some(([text]) => text === 'Speaking') && seen.at(-1)[0] === 'Listening'")
    assert page.run("seen.at(-1)[1]") > made - 0.5


def test_what_was_made_to_its_end_is_not_left_out_after_a_pause(
    page: Page, service: Service, server: Any, speech: Callable[[float], Path]
) -> None:
    client = Client(server.port)
    begun = client.ask("POST", "/v1/sessions/audio?avatar=one&fps=25", speech(4.0).read_bytes())[1]
    page.open(f"http://127.0.0.1:{server.port}/#{begun['id']}")
    page.until("v.currentTime > 0.3")
    page.run("v.pause()")
    at = page.run("v.currentTime")
    until(lambda: not service.sessions.running, "it is made")
    page.until("v.buffered.end(0) > 3.9 && v.playbackRate === 1")
    page.run("v.addEventListener('playing', () => (window.resumed = v.currentTime), { once: true }); v.play()")
    page.until(f"v.currentTime > {at}")
    assert page.run("resumed") < at + 1.5
    assert page.run("v.playbackRate") == 1
    page.until("document.getElementById('status').textContent.includes('has ended')")


def test_volume_mute_and_full_screen_are_on_the_stage(page: Page, service: Service) -> None:
    begin(page, service)
    names = {
        name: page.run(f"document.getElementById('{name}').getAttribute('aria-label')")
        for name in ("pause", "mute", "volume", "full")
    }
    assert names == {"pause": "Pause", "mute": "Mute", "volume": "Volume", "full": "Full screen"}
    page.click("mute")
    page.until("v.muted && document.getElementById('mute').title === 'Sound on'")
    page.run("""document.getElementById('volume').value = 0.5;
        document.getElementById('volume').dispatchEvent(new Event("input")); undefined""")
    assert page.run("[v.volume, v.muted]") == [0.5, False]
    page.click("full")
    page.until("document.fullscreenElement?.id === 'stage'")
    page.until("document.getElementById('full').title === 'Leave full screen'")
    page.click("full")
    page.until("!document.fullscreenElement")
