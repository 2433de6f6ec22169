"""The page as somebody sees it who comes for the first time, in a real browser. One service and one browser for all."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.browser import BROWSER, Page
from helpers.service_client import Client, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

PHONE, WIDE = (390, 844), (1280, 600)


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=1, avatar_folder=tmp_path_factory.mktemp("avatars")))


@pytest.fixture(scope="module")
def browser_options() -> list[str]:
    return ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def resize(page: Page, size: tuple[int, int]) -> None:
    width, height = size
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


def rectangle(page: Page, name: str) -> dict[str, float]:
    found: dict[str, float] = page.run(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
    return found


def test_one_click_lets_the_face_speak(page: Page, service: Service) -> None:
    page.click("demo")
    page.until("document.getElementById('state').textContent === 'Speaking'")
    assert page.text("status") == "It says demo-speech.wav, 0:13 long."
    assert service.sessions.running[0].state == "speaking"


def test_a_remark_hides_nothing_and_goes_by_itself(
    page: Page, service: Service, speech: Callable[[float], Path]
) -> None:
    page.choose("#clip", speech(2.0))
    page.click("play")
    page.until("document.getElementById('status').innerText.startsWith('It says')")
    until(lambda: service.sessions.running[0].events.subscribers, "the page listens")
    service.sessions.running[0].events.publish("warning", message="this machine is slow at the moment")
    page.until("document.getElementById('notice').innerText === 'This machine is slow at the moment.'")
    assert page.text("status") == "It says 2.0.wav, 0:02 long."
    page.until("document.getElementById('notice').innerText === ''")


def test_a_slow_machine_is_told_in_plain_words(page: Page, service: Service) -> None:
    page.click("play")
    until(lambda: service.sessions.running and service.sessions.running[0].clock.running, "it plays")
    session = service.sessions.running[0]
    until(lambda: session.events.subscribers, "the page listens")
    session.clock.jump(session.clock.now() + 60)  # it has to wait for generation
    page.until("document.getElementById('notice').innerText === 'This machine is slow at the moment.'")
    session.events.publish("rate", fps=15.0)
    page.until("document.getElementById('figures').textContent.includes('15 fps')")


def test_where_the_service_is_full_the_page_waits_and_gets_in_by_itself(
    page: Page, server: Any, speech: Callable[[float], Path]
) -> None:
    client = Client(server.port)
    other = client.begin()
    page.choose("#clip", speech(3.0))
    page.click("play")
    page.until("document.getElementById('wait').checkVisibility()")
    assert page.text("wait-reason").startswith("Waiting for a free place. 1 session")
    assert page.text("wait-next").startswith("Next try in ")
    assert page.text("error") == ""
    page.click("wait-cancel")
    page.ready()
    assert page.text("wait") == page.text("error") == ""
    assert page.run("document.activeElement.id") == "play"
    page.click("play")
    page.until("document.getElementById('wait').checkVisibility()")
    client.ask("DELETE", other)
    page.until("v.currentTime > 0.3")
    page.until("document.getElementById('status').innerText === 'It says 3.0.wav, 0:03 long.'")


def test_a_clip_that_is_no_speech_takes_no_place(page: Page, service: Service, bad_audio: Path) -> None:
    begun = service.metrics.count("sessions_total")
    page.choose("#clip", bad_audio / "text.wav")
    page.click("play")
    page.until("document.getElementById('error').innerText.includes('ot an audio file')")
    assert service.metrics.count("sessions_total") == begun


def test_a_clip_that_is_too_large_or_too_long_is_not_sent(
    page: Page, service: Service, speech: Callable[[float], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "settings", replace(service.settings, clip_bytes=1 << 20, clip_seconds=2.0))
    page.open(page.run("location.href"))
    (tmp_path / "large.wav").write_bytes(bytes(3 << 19))
    page.choose("#clip", tmp_path / "large.wav")
    page.click("play")
    page.until("!document.getElementById('error').hidden")
    assert page.text("error-text") == "The file has 1.5 MiB: a clip may have 1 MiB."
    page.choose("#clip", speech(4.0))
    page.until("document.getElementById('preview').duration > 3")
    page.click("play")
    page.until("document.getElementById('error-text').innerText === 'The file is 0:04 long: a clip may last 0:02.'")
    sent = page.run("performance.getEntriesByType('resource').filter(({name}) => name.includes('sessions')).length")
    assert sent == 0


def test_a_very_large_photo_is_scaled_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.full((6000, 8000, 3), 128, np.uint8))
    page.run("""XMLHttpRequest.prototype.send = function (file) { window.sent = file; }; undefined""")
    page.click("add")
    page.choose("#new-file", photo)
    page.until("document.getElementById('new-status').innerText.includes('Drag')")
    page.click("make")
    page.until("window.sent")
    size = page.run("createImageBitmap(sent).then(({width, height}) => [width, height, sent.name, sent.type])")
    assert size == [2560, 1920, "photo.jpg", "image/jpeg"]
    page.click("cancel")


@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_buttons_stay_where_they_are(page: Page, size: tuple[int, int]) -> None:
    resize(page, size)
    names = ("record", "live")
    before = [rectangle(page, name) for name in names]
    page.click("record")
    page.until("document.getElementById('record').innerText === 'Stop recording'")
    assert [rectangle(page, name) for name in names] == before
    page.click("record")
    page.click("live")
    page.until("document.getElementById('live').innerText === 'Stop speaking'")
    shape = [[rectangle(page, name)[side] for side in ("width", "height")] for name in names]
    assert shape == [[rectangle["width"], rectangle["height"]] for rectangle in before]
    page.click("live")


def test_on_a_phone_the_face_is_in_sight_when_it_speaks(page: Page, speech: Callable[[float], Path]) -> None:
    resize(page, PHONE)
    page.choose("#clip", speech(2.0))
    page.run("document.getElementById('play').scrollIntoView({behavior: 'instant'})")
    assert rectangle(page, "stage")["top"] < 0
    page.click("play")
    page.until("document.getElementById('stage').getBoundingClientRect().top >= 0")
    assert rectangle(page, "stage")["bottom"] <= PHONE[1]


def test_figures_are_under_details(page: Page) -> None:
    page.click("play")
    page.until("document.getElementById('figures').textContent.includes('fps')")
    assert page.text("figures") == ""
    page.run("document.querySelector('#details summary').click()")
    assert "buffer" in page.text("figures")


def test_the_stage_is_as_large_as_the_picture(page: Page) -> None:
    resize(page, WIDE)
    page.until("!document.getElementById('idle').hidden && document.getElementById('idle').height > 150")
    ratio = page.run("document.getElementById('idle').width / document.getElementById('idle').height")
    stage = rectangle(page, "stage")
    assert stage["width"] / stage["height"] == pytest.approx(ratio, rel=0.01)


def test_the_api_has_an_index_an_example_for_each_call_and_each_error_once(page: Page, server: Any) -> None:
    page.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/api.html")
    page.until("document.getElementById('errors')")
    calls = Client(server.port).ask("GET", "/v1/openapi.json")[1]["paths"]
    count = sum(map(len, calls.values()))
    links = page.run("[...document.querySelectorAll('main nav a')].map((link) => link.hash.slice(1))")
    sections = page.run("[...document.querySelectorAll('main section')].map(({ id }) => id)")
    assert links == sections
    assert len(sections) == count + 1
    examples = page.run("[...document.querySelectorAll('main section pre')].map(({ textContent }) => textContent)")
    assert len(examples) == len(set(examples)) == count
    assert all(example.startswith("curl ") for example in examples)
    text = page.run("document.body.innerText")
    for error in ("It wants a token", "The session has ended", "The request is not what it should be"):
        assert text.count(error) == 1
    page.call("Page.navigate", url="about:blank")
    page.open(f"http://127.0.0.1:{server.port}/")
