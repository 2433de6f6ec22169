"""Sessions that say one file and end, on a real server."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from helpers.service_client import Client, Viewer, asking_by_token, end_sessions, until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.lead import idle_lead
from musetalk_runtime.service.settings import Settings

BEGIN = "/v1/sessions/audio?avatar=one&fps=25"


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=2))


@pytest.fixture(scope="module")
def client(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with asking_by_token(service, tmp_path_factory.mktemp("tokens")) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_session_is_left(service: Service) -> Iterator[None]:
    yield
    end_sessions(service)


def about_the_clip(answer: dict[str, Any]) -> list[str]:
    """Warnings; that a busy machine is slow is not among them."""
    return [warning for warning in answer["warnings"] if not warning.startswith("this machine ")]


def test_it_says_the_file_and_ends_with_a_whole_stream(
    client: Client, service: Service, bundle: Path, avatar: Path, speech: Callable[[float], Path]
) -> None:
    file = speech(2.3)
    status, session = client.ask("POST", BEGIN, file.read_bytes())
    assert status == 201
    path = f"/v1/sessions/{session['id']}"
    whole = Viewer(client, path, whole=True)
    whole.join(60)
    assert not whole.is_alive()
    assert not whole.cut
    assert client.ask("GET", path)[1]["state"] == "ended"
    assert not service.sessions.running
    with av.open(io.BytesIO(whole.init + whole.data)) as container:
        shown = [frame.to_ndarray() for frame in container.decode(video=0)]
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, Session(b, a, file, fps=25) as alone:
        assert len(shown) == len(list(alone.frames()))
    assert any((frame != shown[0]).any() for frame in shown)
    assert client.ask("POST", f"{path}/audio", file.read_bytes())[0] == 409


def test_it_can_listen_on_after_the_file(client: Client, service: Service, speech: Callable[[float], Path]) -> None:
    status, session = client.ask("POST", f"{BEGIN}&then=listen", speech(0.5).read_bytes())
    assert status == 201
    assert session["queued"] <= 0.5 + idle_lead(Fraction(25)), "silence comes before; some may have been taken already"
    path = f"/v1/sessions/{session['id']}"
    until(lambda: client.ask("GET", path)[1]["state"] == "idle", "it has said the file")
    assert client.ask("POST", f"{path}/audio", speech(0.5).read_bytes())[0] == 202
    assert client.ask("DELETE", path)[0] == 204
    until(lambda: not service.sessions.running, "it ends")


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_viewers_hear_what_was_sent(client: Client, live: bool) -> None:
    times = np.arange(2 * 48_000) / 48_000
    tones = (440, 11_000)  # the second is more than 16 kHz can hold
    clip = io.BytesIO()
    with av.open(clip, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        both = np.stack([8000 * np.sin(2 * np.pi * tone * times) for tone in tones], 1).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(both.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    _, session = client.ask("POST", BEGIN, clip.getvalue()) if not live else (0, {"id": client.begin()[13:]})
    path = f"/v1/sessions/{session['id']}"
    viewer = Viewer(client, path, whole=True)
    if live:
        status, answer = client.ask("POST", f"{path}/audio", clip.getvalue())
        assert (status, answer["seconds"], about_the_clip(answer)) == (202, 2.0, [])
        assert answer["queued"] <= 2.0, "the session may have taken some of it already"
        until(lambda: client.ask("GET", path)[1]["generated"] > 3, "it has been said")
        client.ask("DELETE", path)
    viewer.join(60)
    with av.open(io.BytesIO(viewer.init + viewer.data)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert sound.shape[0] == 2
    for channel, tone in zip(sound, tones, strict=True):
        loudest = np.argmax(np.abs(np.fft.rfft(channel)))
        assert loudest * 48_000 / len(channel) == pytest.approx(tone, abs=5)


def test_what_is_wrong_with_a_clip_is_told_to_who_sent_it(
    client: Client, service: Service, speech: Callable[[float], Path]
) -> None:
    cut = speech(1.0).read_bytes()[:20_044]
    told = ["truncated: its header promises 32000 bytes of audio, 20000 are there"]
    status, session = client.ask("POST", BEGIN, cut)
    assert (status, about_the_clip(session)) == (201, told)
    assert about_the_clip(client.ask("GET", f"/v1/sessions/{session['id']}")[1]) == told
    path = client.begin()
    heard = client.warnings(path)
    status, answer = client.ask("POST", f"{path}/audio", cut)
    assert (status, about_the_clip(answer)) == (202, told)
    assert next(heard) == f"clip: {told[0]}"
    client.ask("DELETE", path)
    until(lambda: not service.sessions.running, "both have ended")


def test_an_interruption_ends_it(client: Client, service: Service, speech: Callable[[float], Path]) -> None:
    _, session = client.ask("POST", BEGIN, speech(20.0).read_bytes())
    until(lambda: service.sessions.running and service.sessions.running[0].frames > 5, "it speaks")
    assert client.ask("POST", f"/v1/sessions/{session['id']}/interrupt")[0] == 200
    until(lambda: not service.sessions.running, "it has nothing more to say")
    assert client.ask("GET", f"/v1/sessions/{session['id']}")[1]["generated"] < 20


def test_what_cannot_be_said_begins_nothing(
    client: Client, service: Service, speech: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = speech(1.0).read_bytes()

    def code(path: str, body: bytes, held: Client = client) -> tuple[int, str]:
        status, answer = held.ask("POST", path, body)
        return status, answer["error"]["code"]

    assert code(BEGIN, b"no audio at all") == (422, "invalid_request")
    assert code(BEGIN, b"") == (422, "invalid_request")
    assert code(BEGIN.replace("one", "nobody"), voice)[0] == 404
    assert code(f"{BEGIN}&fps=1", voice)[0] == 422
    assert code(f"{BEGIN}&other=1", voice) == (422, "invalid_request")
    assert code(f"{BEGIN}&push=nowhere", voice)[0] in (404, 422)
    assert code(BEGIN, voice, Client(client.port)) == (401, "unauthorized")
    monkeypatch.setattr(service, "settings", replace(service.settings, clip_bytes=len(voice) - 1))
    assert code(BEGIN, voice) == (413, "too_large")
    monkeypatch.undo()
    assert not service.sessions.running
    held = [client.begin() for _ in range(2)]
    assert code(BEGIN, voice) == (503, "no_capacity")
    for path in held:
        client.ask("DELETE", path)
