"""Who may use the service, and how."""

import hashlib
import ipaddress
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from helpers.media import voice
from helpers.modules import loaded_modules
from helpers.processes import EDGE, complaints, port_in
from helpers.service_client import Client, Viewer, end_sessions, serving, until
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.rate_limit import RateLimit
from musetalk_runtime.service.security.signed_urls import LIFETIME_S, SignedUrls
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.txt"


@pytest.fixture(scope="module")
def texts(file: Path) -> dict[str, str]:
    return {"anna": add_token(file, "anna", None, None), "ben": add_token(file, "ben", 1, 1)}


class Clock:
    """A monotonic clock that is ``ahead`` by so many seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(scope="module")
def clock() -> Clock:
    """Of the signed URLs."""
    return Clock()


@pytest.fixture(scope="module")
def server(service: Service, texts: dict[str, str], file: Path, clock: Clock) -> Iterator[Any]:
    access = Access(
        Tokens(file),
        frozenset({"face.example"}),
        ("https://app.example",),
        "/face",
        (ipaddress.ip_network("127.0.0.2/32"),),
        SignedUrls(clock),
    )
    assert texts
    with serving(service, access) as running:
        yield running


@pytest.fixture
def clients(server: Any, service: Service, texts: dict[str, str]) -> Iterator[dict[str, Client]]:
    """One with each token and, as "", one without; the sessions they began are ended after the test."""
    yield {"": Client(server.port), **{name: Client(server.port, text) for name, text in texts.items()}}
    end_sessions(service)


def test_without_a_token_nothing_but_the_page_and_the_health_answers(clients: dict[str, Client]) -> None:
    stranger = clients[""]
    for path in ("/", "/app.js", "/token.js", "/healthz", "/readyz", "/v1/openapi.json"):
        assert stranger.ask("GET", path)[0] == 200, path
    description = stranger.ask("GET", "/v1/openapi.json")[1]
    assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    guarded = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if operation.get("security") != []:
                guarded += 1
                for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YTpi"}):
                    with stranger.request(method.upper(), path.replace("{id}", "a" * 24), **headers) as answer:
                        assert answer.status == 401, (method, path)
                        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert guarded >= 8
    assert stranger.ask("GET", "/v1/nothing")[0] == stranger.ask("GET", "/face/v1/avatars")[0] == 401
    assert clients["anna"].ask("GET", "/v1/avatars")[0] == clients["anna"].ask("GET", "/face/v1/avatars")[0] == 200
    assert clients["anna"].ask("GET", "/metrics")[0] == 200


def test_a_signed_link_opens_its_one_path_until_it_expires(
    clients: dict[str, Client], service: Service, clock: Clock
) -> None:
    stranger = clients[""]
    path = clients["anna"].begin()
    session = clients["anna"].ask("GET", path)[1]
    assert all(session[name].startswith(f"/face{path}/") for name in ("stream", "events", "audio"))
    viewer = Viewer(stranger, path, "?" + session["stream"].partition("?")[2], limit=5000)
    viewer.join()
    assert viewer.status == 200
    assert len(viewer.data) > 1000
    stream, query = session["stream"].split("?")
    with stranger.request("GET", session["events"]) as answer:
        assert answer.status == 200
    with connect(f"ws://127.0.0.1:{stranger.port}{session['audio']}") as audio:
        audio.send(voice(8.0).astype("<i2").tobytes())  # more than the lead: for a while, some waits
        until(lambda: service.sessions.running[0].state == "speaking", "it speaks")
    flipped = query[:-1] + ("0" if query[-1] != "0" else "1")
    later = query.replace("expires=", "expires=9")
    twice = query + "&" + query
    for method, bad in [
        ("GET", f"{stream}?{flipped}"),
        ("GET", f"{stream}?{later}"),
        ("GET", f"{stream}?{twice}"),
        ("GET", f"{stream}?expires=x&signature=%ff"),
        ("GET", f"{path}?{query}"),
        ("GET", f"{path}/events?{query}"),
        ("DELETE", f"{path}?{query}"),
        ("POST", session["audio"]),
    ]:
        assert stranger.ask(method, bad)[0] == 401, bad
    for bad in ("", f"?{query}"):
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{stranger.port}{path}/audio{bad}"):
            pass
        assert refused.value.response.status_code == 401
    clock.ahead += LIFETIME_S + 1
    assert stranger.ask("GET", session["stream"])[0] == 401


def test_a_session_is_its_token_s_alone(clients: dict[str, Client]) -> None:
    path = clients["anna"].begin()
    for method, what in [("GET", ""), ("DELETE", ""), ("POST", "/interrupt"), ("POST", "/audio"), ("GET", "/events")]:
        assert clients["ben"].ask(method, path + what)[0] == 404, what
    assert clients["anna"].ask("GET", path)[0] == 200


def test_a_token_s_limits_hold(clients: dict[str, Client], speech: Callable[[float], Path]) -> None:
    ben = clients["ben"]
    path = ben.begin()
    status, answer = ben.ask("POST", "/v1/sessions", {"avatar": "one", "fps": 25})
    assert (status, answer["error"]["code"]) == (429, "too_many_sessions")
    clients["anna"].begin()
    clip = speech(2.0).read_bytes()
    assert ben.ask("POST", f"{path}/audio", clip)[0] == 202
    status, answer = ben.ask("POST", f"{path}/audio", clip * 20)
    assert (status, answer["error"]["code"]) == (429, "upload_limit")
    audio_url = ben.ask("GET", path)[1]["audio"]
    with connect(f"ws://127.0.0.1:{ben.port}{audio_url}") as audio:
        with suppress(ConnectionClosed):
            for _ in range(8):
                audio.send(bytes(200_000))
        with pytest.raises(ConnectionClosed) as closed:
            audio.recv(timeout=60)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1008
    assert clients["anna"].ask("GET", "/v1/avatars")[0] == 200


def test_a_rate_limit_comes_back_evenly() -> None:
    now = 1000.0
    limit = RateLimit(3600, lambda: now)
    assert [limit.spend(3000), limit.spend(700), limit.spend(600)] == [True, False, True]
    now += 10
    assert [limit.spend(11), limit.spend(10)] == [False, True]
    now += 1e6
    assert [limit.spend(3601), limit.spend(3600)] == [False, True]
    assert RateLimit(None).spend(1 << 60)


def test_it_answers_to_its_own_names_and_pages_alone(clients: dict[str, Client], server: Any) -> None:
    anna = clients["anna"]
    for host, status in {
        f"localhost:{server.port}": 200,
        f"127.0.0.1:{server.port}": 200,
        "[::1]:8787": 200,
        "192.0.2.7": 200,
        "FACE.example:443": 200,
        "evil.example": 400,
        "face.example.evil.example": 400,
        "127.0.0.1.evil.example": 400,
        "x y": 400,
        "": 400,
    }.items():
        assert anna.ask("GET", "/v1/avatars", Host=host)[0] == status, host
        assert anna.ask("GET", "/healthz", Host=host)[0] == status, host
    own = f"127.0.0.1:{server.port}"
    for origin, status in {
        f"http://{own}": 201,
        "https://app.example": 201,
        "https://evil.example": 403,
        "https://app.example.evil.example": 403,
        "http://app.example": 403,
        "null": 403,
    }.items():
        body = {"avatar": "one", "fps": 10}
        with anna.request("POST", "/v1/sessions", body, Origin=origin, Host=own) as answer:
            assert answer.status == status, origin
            shared = answer.headers.get("Access-Control-Allow-Origin")
            assert shared == ("https://app.example" if origin == "https://app.example" else None)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert clients[""].ask("OPTIONS", "/v1/sessions", None, Origin="https://app.example", **asked)[0] == 200
    assert clients[""].ask("OPTIONS", "/v1/sessions", None, Origin="https://evil.example", **asked)[0] == 400


def test_what_is_forwarded_is_believed_from_a_trusted_proxy_alone(clients: dict[str, Client], server: Any) -> None:
    said = {"Host": "evil.example", "X-Forwarded-Host": "face.example", "Origin": "https://face.example"}
    assert clients["anna"].ask("GET", "/v1/avatars", **said)[0] == 400
    access = server.config.app.state.access
    scope = {"type": "http", "headers": [(b"host", b"a"), (b"x-forwarded-host", b"evil.example, face.example")]}
    for client, host in {"127.0.0.2": "face.example", "127.0.0.1": "a", "testclient": "a"}.items():
        assert access.host({**scope, "client": (client, 1)}) == host
    assert access.host({**scope, "client": None}) == "a"


def test_without_tokens_a_foreign_page_is_refused(service: Service) -> None:
    with serving(Service(service.catalog.bundles, service.avatars, service.settings)) as running:
        client = Client(running.port)
        assert client.ask("GET", "/v1/avatars")[0] == 200
        assert client.ask("GET", "/v1/avatars", Host="evil.example")[0] == 400
        assert client.ask("GET", "/v1/avatars", Origin="https://evil.example")[0] == 403
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"ws://127.0.0.1:{running.port}/v1/sessions/{'a' * 24}/audio", origin="https://evil.example"),
        ):
            pass
        assert refused.value.response.status_code == 403


def test_the_file_holds_digests_and_is_its_owner_s(tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    command = [*EDGE, "token", "anna", "--tokens", str(file), "--sessions", "2"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    text = made.stdout.strip()
    assert len(text) == 43
    assert text not in file.read_text() + made.stderr
    assert hashlib.sha256(text.encode()).hexdigest() in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, "already" in again.stderr, again.stdout) == (2, True, "")
    other = add_token(file, "ben", None, 3)
    tokens = Tokens(file)
    anna, ben = tokens.find(text), tokens.find(other)
    assert anna
    assert ben
    assert (anna.name, anna.sessions, anna.uploads.limit) == ("anna", 2, None)
    assert (ben.name, ben.sessions, ben.uploads.limit) == ("ben", None, 3 << 20)
    assert tokens.find(text[:-1]) is None
    assert tokens.find("\udcff") is None
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file, digest = tmp_path / "tokens.txt", "a" * 64
    with pytest.raises(InputNotFound, match="makes one"):
        Tokens(file)
    for content, message in {
        "# nothing\n": "holds no token",
        "anna secret - -\n": ":1: expected NAME SHA256",
        f"\nanna {digest} -\n": ":2: expected NAME SHA256",
        f"anna {digest} 0 -\n": "limit '0'",
        f"a {digest} - -\na {digest} - -\n": "one name",
        "x" * (2 << 20): "larger than",
    }.items():
        file.write_text(content)
        with pytest.raises(InvalidArgument, match=message):
            Tokens(file)
    for name, sessions in [("../x", None), ("", None), ("a b", None), ("ok", 0), ("ok", -1)]:
        with pytest.raises(InvalidArgument):
            add_token(tmp_path / "new.txt", name, sessions, None)
    assert not (tmp_path / "new.txt").exists()
    for bad in ({"hosts": frozenset({"a:1"})}, {"origins": ("*",)}, {"origins": ("app",)}, {"root_path": "face"}):
        with pytest.raises(InvalidArgument):
            Access(**bad)


def test_making_a_token_needs_no_extra() -> None:
    assert (
        loaded_modules("import musetalk_runtime.service.security.tokens", ["fastapi", "starlette", "av", "numpy"]) == []
    )


def test_a_process_with_tokens_logs_none_of_them(
    bundle: Path, avatar: Path, texts: dict[str, str], file: Path, speech: Callable[[float], Path]
) -> None:
    options = ["-b", str(bundle), "-a", f"one={avatar}", "--port", "0", "--sessions", "2", "--tokens", str(file)]
    command = [*EDGE, "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = process.stderr.readline()
        port = port_in(said)
        anna, stranger = Client(port, texts["anna"]), Client(port)
        path = anna.begin()
        signed_urls = anna.ask("GET", path)[1]
        assert anna.ask("POST", f"{path}/audio", speech(1.0).read_bytes())[0] == 202
        assert anna.ask("POST", f"{path}/audio", b"Bearer secret words")[0] == 422
        Viewer(stranger, path, "?" + signed_urls["stream"].partition("?")[2], limit=3000).join()
        with connect(f"ws://127.0.0.1:{port}{signed_urls['audio']}") as audio:
            audio.send("secret words")
        assert stranger.ask("GET", f"{path}?token={texts['anna']}")[0] == 401
        anna.ask("DELETE", path)
        process.terminate()
        process.wait(60)
        assert complaints(process.stderr.read()) == []
