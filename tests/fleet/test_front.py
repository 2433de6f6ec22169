"""The front end of a fleet, with real devices and without Ray."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.fleet import SECRET, ListedDevices, StandIn, begin_soon, device, fronting, served
from helpers.service_client import Client, Viewer, end_sessions, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.fleet.directory import DeviceAddress
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.signed_tokens import FRONT, SignedTokens, device_key
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings


@pytest.fixture(scope="module")
def services(bundle: Path, avatar: Path) -> Iterator[dict[str, Service]]:
    """The services of two devices, which hold three sessions and two."""
    with Bundle.open(bundle) as opened, Avatar.open(avatar) as face:
        yield {name: Service(opened, {"one": face}, Settings(sessions=count)) for name, count in (("a", 3), ("b", 2))}


@pytest.fixture(scope="module")
def addresses(services: dict[str, Service]) -> Iterator[dict[str, DeviceAddress]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(device(name, service)) for name, service in services.items()}


@pytest.fixture
def another(bundle: Path, avatar: Path) -> Iterator[Service]:
    """A service for a device of a test's own, which holds one session."""
    with Bundle.open(bundle) as opened, Avatar.open(avatar) as face:
        yield Service(opened, {"one": face}, Settings(sessions=1))


@pytest.fixture(scope="module")
def running(addresses: dict[str, DeviceAddress]) -> Iterator[tuple[Client, Front]]:
    with fronting(ListedDevices(*addresses.values())) as front:
        yield front


@pytest.fixture
def fleet(running: tuple[Client, Front]) -> tuple[Client, Front]:
    """Both devices, which the front end knows to be empty."""
    until(lambda: running[1].rooms.free == 5, "all sessions have ended")
    return running


@pytest.fixture(autouse=True)
def no_sessions(services: dict[str, Service]) -> Iterator[None]:
    yield
    for service in services.values():
        service.admits = True
        end_sessions(service)


def port_and_path(address: str) -> tuple[int, str]:
    """Of an address that leads to a device of this machine."""
    host, _, path = address.removeprefix("http://").partition("/")
    return int(host.partition(":")[2]), f"/{path}"


@contextmanager
def with_tokens(addresses: dict[str, DeviceAddress], folder: Path, **limits: Any) -> Iterator[tuple[Client, Client]]:
    """Two clients with tokens of a front end that wants one; the first has limits."""
    texts = [
        add_token(folder / "tokens", name, given.get("sessions"), None)
        for name, given in (("anna", limits), ("ben", {}))
    ]
    with fronting(ListedDevices(*addresses.values()), Access(Tokens(folder / "tokens"))) as (client, _):
        yield Client(client.port, texts[0]), Client(client.port, texts[1])


def test_sessions_go_where_there_is_room_until_there_is_none(fleet: tuple[Client, Front]) -> None:
    client, _ = fleet
    found = Counter(begin_soon(client)["device"] for _ in range(5))
    assert found == {"a": 3, "b": 2}
    answer = client.request("POST", "/v1/sessions", {"avatar": "one"})
    assert answer.status == 503
    assert answer.headers["Retry-After"]


def test_a_session_is_watched_at_its_device_and_spoken_to_at_the_front(
    fleet: tuple[Client, Front], speech: Any
) -> None:
    client, _ = fleet
    session = begin_soon(client)
    path = f"/v1/sessions/{session['id']}"
    assert client.ask("POST", f"{path}/audio", speech(0.5).read_bytes())[0] == 202
    port, stream = port_and_path(session["stream"])
    with Client(port).request("GET", stream) as answer:
        assert answer.status == 200
        assert b"ftyp" in answer.read(1000)
    assert client.ask("GET", path)[1]["device"] == session["device"]
    assert client.ask("POST", f"{path}/interrupt")[0] == 200
    assert client.ask("DELETE", path)[0] == 204
    assert client.ask("GET", path)[0] == 404


def test_a_session_of_a_file_says_it(fleet: tuple[Client, Front], speech: Any) -> None:
    client, _ = fleet
    status, session = client.ask("POST", "/v1/sessions/audio?avatar=one&fps=25", speech(0.5).read_bytes())
    assert status == 201, session
    path = f"/v1/sessions/{session['id']}"
    until(lambda: client.ask("GET", path)[1]["generated"] >= 0.5, "it says the file")
    assert client.ask("POST", "/v1/sessions/audio?avatar=one", b"no audio")[0] == 422


def test_viewers_who_ask_the_front_are_led_to_the_device(fleet: tuple[Client, Front]) -> None:
    client, _ = fleet
    session = begin_soon(client)
    answer = client.request("GET", f"/v1/sessions/{session['id']}/stream.mp4?slow=end")
    assert answer.status == 307
    port, path = port_and_path(answer.headers["Location"])
    assert "slow=end" in path
    viewer = Viewer(Client(port), path.partition("/stream.mp4")[0], f"?{path.partition('?')[2]}", limit=2000)
    viewer.join()
    assert viewer.status == 200
    assert client.ask("GET", f"/v1/sessions/{session['id']}/other")[0] == 404


def test_what_is_wrong_is_told_as_a_device_tells_it(fleet: tuple[Client, Front]) -> None:
    client, _ = fleet
    for wanted, status, code in (
        ({"avatar": "nobody"}, 404, "unknown_avatar"),
        ({"avatar": "one", "bundle": "other"}, 404, "unknown_bundle"),
        ({"avatar": "one", "fps": 1}, 422, "invalid_request"),
        ({"avatar": "one", "more": 1}, 422, "invalid_request"),
    ):
        found, answer = client.ask("POST", "/v1/sessions", wanted)
        assert (found, answer["error"]["code"]) == (status, code)
    for key in ("nonsense", "a.short", "..", "a.0000000x" + "A" * 24):
        assert client.ask("GET", f"/v1/sessions/{key}")[0] == 404, key


def test_sessions_of_a_device_or_a_process_that_is_gone_are_gone(fleet: tuple[Client, Front]) -> None:
    client, _ = fleet
    for key in ("elsewhere.00000000" + "A" * 24, "a.00000000" + "A" * 24):
        answer = client.request("GET", f"/v1/sessions/{key}")
        assert answer.status == 410
        assert answer.headers["Retry-After"] == "1"


def test_a_device_that_is_closed_keeps_its_sessions_and_gets_none(
    fleet: tuple[Client, Front], services: dict[str, Service]
) -> None:
    client, front = fleet
    first = begin_soon(client)
    assert first["device"] == "a"
    services["a"].admits = False  # the front end has not heard of it yet
    assert [begin_soon(client)["device"] for _ in range(2)] == ["b", "b"]
    assert client.ask("POST", "/v1/sessions", {"avatar": "one"})[0] == 503
    assert client.ask("GET", f"/v1/sessions/{first['id']}")[1]["state"] in ("starting", "idle")
    until(lambda: (a := front.rooms.up.get("a")) and not a.admits, "the front end hears of it")


def test_sessions_are_their_tokens_alone(addresses: dict[str, DeviceAddress], tmp_path: Path) -> None:
    with with_tokens(addresses, tmp_path, sessions=2) as (anna, ben):
        ids = {begin_soon(anna)["id"] for _ in range(2)}
        assert anna.ask("POST", "/v1/sessions", {"avatar": "one"})[0] == 429
        assert ben.ask("GET", f"/v1/sessions/{next(iter(ids))}")[0] == 404
        until(lambda: {found["id"] for found in anna.ask("GET", "/v1/sessions")[1]} == ids, "both are listed")
        assert ben.ask("GET", "/v1/sessions") == (200, [])
        assert Client(anna.port).ask("GET", "/v1/avatars")[0] == 401


def test_a_device_takes_only_what_its_front_end_signs(addresses: dict[str, DeviceAddress]) -> None:
    port = port_and_path(addresses["a"].url)[0]

    def ask(token: str, path: str = "/v1/fleet/status") -> int:
        return int(Client(port, token).ask("GET", path)[0])

    signer = SignedTokens(device_key(SECRET, "a"))
    assert ask(signer.sign(FRONT)) == 200
    assert ask(SignedTokens(device_key(SECRET, "b")).sign(FRONT)) == 401  # another device's
    assert ask(SignedTokens(device_key(b"x" * 32, "a")).sign(FRONT)) == 401  # another secret
    assert ask(SignedTokens(device_key(SECRET, "a"), lambda: 0.0).sign(FRONT)) == 401  # of long ago
    assert ask("") == ask("a.b") == ask(signer.sign("x" * 2000)) == 401
    assert ask(signer.sign("anna")) == 403
    assert ask(signer.sign("anna"), "/v1/avatars") == 200


def test_a_device_with_another_secret_is_never_sent_anything(another: Service) -> None:
    stranger = SignedTokens(device_key(b"x" * 32, "a"))
    with serving(another, Access(stranger)) as server:
        listed = ListedDevices(DeviceAddress("a", f"http://127.0.0.1:{server.port}"))
        with fronting(listed, all_up=False) as (client, front):
            assert client.ask("POST", "/v1/sessions", {"avatar": "one"})[0] == 503
            assert client.ask("GET", "/v1/devices")[1][0]["up"] is False
            assert front.counts["begun"] == 0


def test_a_device_that_dies_is_out_of_rotation_and_its_sessions_are_gone(addresses: dict[str, DeviceAddress]) -> None:
    with ExitStack() as stack:
        dying = StandIn(9)
        with served(dying.app) as port:
            listed = ListedDevices(addresses["b"], DeviceAddress("a", f"http://127.0.0.1:{port}"))
            client, _ = stack.enter_context(fronting(listed))
            lost = begin_soon(client)
            assert lost["device"] == "a"
        assert begin_soon(client)["device"] == "b"  # before the front end has noticed
        until(lambda: [d["up"] for d in client.ask("GET", "/v1/devices")[1]] == [False, True], "it is noticed", 5)
        until(lambda: client.ask("GET", f"/v1/sessions/{lost['id']}")[0] == 410, "its sessions are gone", 10)
        dying.process = "ffffffff"
        with served(dying.app, port):  # another process in its place
            until(lambda: client.ask("GET", "/v1/devices")[1][0]["up"], "it is back")
            assert client.ask("GET", f"/v1/sessions/{lost['id']}")[0] == 410
            assert begin_soon(client)["device"] == "a"


def test_a_front_end_that_starts_anew_finds_all_sessions(addresses: dict[str, DeviceAddress]) -> None:
    listed = ListedDevices(addresses["a"])
    with fronting(listed) as (client, _):
        session = begin_soon(client)
    with fronting(listed) as (client, front):
        assert client.ask("GET", f"/v1/sessions/{session['id']}")[0] == 200
        assert front.rooms["a"].free == 2


def test_addresses_of_devices_behind_a_proxy_have_their_path(another: Service) -> None:
    with device("a", another, public=False) as address, fronting(ListedDevices(address)) as (client, _):
        session = begin_soon(client)
        assert session["stream"].startswith("/d/a/v1/sessions/")
        assert session["events"].startswith("/d/a/v1/sessions/")


def test_figures_for_prometheus_and_autoscalers(addresses: dict[str, DeviceAddress]) -> None:
    with fronting(ListedDevices(addresses["a"]), spare=7) as (client, front):
        begin_soon(client)
        until(lambda: (a := front.rooms.up.get("a")) and a.sessions == 1, "the session is reported")
        text = client.ask("GET", "/metrics")[1]
        assert "musetalk_fleet_free 2.0" in text
        assert "musetalk_fleet_begun_total 1.0" in text
        assert "musetalk_fleet_devices_wanted 3.0" in text  # for 1 + 7 sessions, at 3 a device
        assert "musetalk_sessions 1" in client.ask("GET", "/metrics/a")[1]
        assert client.ask("GET", "/metrics/b")[0] == 404
        assert client.ask("GET", "/v1/limits")[1]["clip_seconds"] == 300


def test_a_plain_service_has_nothing_of_a_fleet(client: Client) -> None:
    assert client.ask("GET", "/v1/fleet/status")[0] == 404
    assert "/v1/fleet/status" not in client.ask("GET", "/v1/openapi.json")[1]["paths"]
