"""Text that a session says, over a real socket, by an engine in a process of its own."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import BROWSER, browsing
from helpers.paths import ROOT
from helpers.service_client import Client, end_sessions, serving, until
from helpers.tone_engine import NAME
from musetalk_runtime import Avatar, Bundle, InvalidArgument
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings
from musetalk_runtime.tts.synthesizer import NEEDS_HIBARI

SENTENCE = "This sentence lasts for four seconds, or for about as long as that. "  # 0.05 s a character


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch, Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        paths = [str(ROOT / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield Service(b, {"one": a}, Settings(sessions=4, tts=NAME))


@pytest.fixture
def client(server: Any, service: Service) -> Iterator[Client]:
    yield Client(server.port)
    end_sessions(service)


def session_at(service: Service, path: str) -> Any:
    return service.sessions.get(path.rpartition("/")[2])


def test_text_is_spoken_while_the_rest_waits_to_be_synthesized(client: Client, service: Service) -> None:
    path = client.begin()
    session = session_at(service, path)
    assert client.ask("POST", f"{path}/text", {"text": SENTENCE * 8}) == (
        202, {"sentences": 8, "queued": 8 * len(SENTENCE.strip())}
    )  # fmt: skip
    until(lambda: session.state == "speaking", "it speaks")
    assert session.text.characters > 0
    until(lambda: session.speech.queued > 3, "speech waits")
    assert session.speech.queued < 8
    status, answer = client.ask("POST", f"{path}/text", {"text": "And then this."})
    assert (status, answer["sentences"]) == (202, 1)
    assert answer["queued"] > len("And then this.")


def test_an_interruption_drops_the_text_too(client: Client, service: Service) -> None:
    path = client.begin()
    session = session_at(service, path)
    client.ask("POST", f"{path}/text", {"text": SENTENCE * 10})
    until(lambda: session.speech.queued > 3 and session.state == "speaking", "it speaks")
    assert client.ask("POST", f"{path}/interrupt")[0] == 200
    assert session.text.characters == 0
    assert session.speech.queued < 0.1
    until(lambda: session.state == "idle" and session.speech.queued == 0, "it is silent")
    made = session.frames
    until(lambda: session.frames > made + 5, "it goes on")
    assert (session.state, session.speech.queued) == ("idle", 0)  # nothing came of the sentence that was under way
    client.ask("POST", f"{path}/text", {"text": SENTENCE})
    until(lambda: session.state == "speaking", "it speaks again")


def test_a_sentence_that_cannot_be_spoken_is_left_out_and_a_dead_engine_is_replaced(
    client: Client, service: Service
) -> None:
    path = client.begin()
    session = session_at(service, path)
    warnings = client.warnings(path)
    client.ask("POST", f"{path}/text", {"text": "I refuse this. " + SENTENCE})
    assert "no such word" in next(warnings)
    until(lambda: session.state == "speaking", "the next one is said")
    client.ask("POST", f"{path}/interrupt")
    client.ask("POST", f"{path}/text", {"text": "Now die. This one is dropped with it."})
    assert "broke down" in next(warnings)
    until(lambda: session.state == "idle", "it is silent")
    assert session.text.characters == 0
    client.ask("POST", f"{path}/text", {"text": SENTENCE})
    until(lambda: session.state == "speaking", "it speaks again")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": ""}, 422, "invalid_request"),
        ({"text": "..."}, 422, "invalid_request"),
        ({"text": "x" * 5001}, 422, "invalid_request"),
        ({"text": ["x"]}, 422, "invalid_request"),
        ({"text": "x", "voice": "heart"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"text": "x" * 70_000}, 413, "too_large"),
    ],
)
def test_text_out_of_bounds_is_refused(client: Client, body: dict[str, Any], status: int, code: str) -> None:
    path = client.begin()
    found, answer = client.ask("POST", f"{path}/text", body)
    assert (found, answer["error"]["code"]) == (status, code)


def test_more_than_may_wait_is_refused_and_nothing_of_it_said(client: Client, service: Service) -> None:
    path = client.begin()
    session = session_at(service, path)
    answers = [client.ask("POST", f"{path}/text", {"text": SENTENCE * 70})[0] for _ in range(4)]
    assert answers.count(202) == 2
    assert answers[-1] == 429
    assert session.text.characters <= 10_000
    assert client.ask("POST", f"/v1/sessions/{'a' * 24}/text", {"text": "Hello."})[0] == 404


def test_without_an_engine_the_answer_says_how_to_get_one(
    bundle: Path, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musetalk_runtime.tts.synthesizer.find_spec", lambda _: None)
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, serving(Service(b, {"one": a}, Settings(2))) as running:
        client = Client(running.port)
        path = client.begin()
        status, answer = client.ask("POST", f"{path}/text", {"text": "Hello."})
        assert (status, answer["error"]) == (403, {"code": "no_text", "message": NEEDS_HIBARI})
        limits = client.ask("GET", "/v1/limits")[1]
        assert (limits["text_characters"], limits["no_text"]) == (0, NEEDS_HIBARI)
    with pytest.raises(InvalidArgument, match="no module"):
        Settings(tts="no.such.module:Engine")


def test_an_engine_is_loaded_at_once_where_that_is_wanted(
    bundle: Path, avatar: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        with serving(Service(b, {"one": a}, Settings(1, tts=NAME, load_tts=True))) as running:
            client = Client(running.port)
            path = client.begin()
            assert client.ask("POST", f"{path}/text", {"text": SENTENCE})[0] == 202
        assert "text cannot be spoken" not in caplog.text
        with serving(Service(b, {"one": a}, Settings(1, tts=f"{NAME}s", load_tts=True))):
            until(lambda: "text cannot be spoken" in caplog.text, "the log has the reason")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed: the extra say")
def test_a_newcomer_clicks_once_and_the_face_says_the_text(bundle: Path, avatar: Path, tmp_path: Path) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1))
        with serving(service) as running, browsing(f"http://127.0.0.1:{running.port}/", tmp_path) as page:
            first = page.run("document.querySelector('#form fieldset:nth-of-type(2) textarea').id")
            assert first == "text"
            page.click("say-text")
            page.until("document.getElementById('state').textContent === 'Speaking'")
            page.until("document.getElementById('status').innerText === 'It says 2 sentences.'")
            page.until("v.currentTime > 1")
            page.run("text.value = 'Once more.'; text.dispatchEvent(new Event('input')); undefined")
            page.run("text.focus()")
            page.key("Enter", 13)
            page.until("document.getElementById('status').innerText === 'It says one sentence.'")
            page.run("text.value = ' '; text.dispatchEvent(new Event('input')); undefined")
            assert page.run("document.getElementById('say-text').getAttribute('aria-disabled')") == "true"
            assert page.run("problems") == []
