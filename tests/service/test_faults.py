"""What goes wrong around a session does not harm it."""

import errno
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service import sessions as sessions_module
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

DAY = 86_400.0


@pytest.fixture
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=2))


@pytest.fixture
def client(service: Service, tmp_path: Path) -> Iterator[Client]:
    token = add_token(tmp_path / "tokens", "anna", None, None)
    with serving(service, Access(Tokens(tmp_path / "tokens"))) as server:
        yield Client(server.port, token)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_is_set_changes_no_pace_and_no_link(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    path = client.begin()
    viewer = Viewer(client, path)
    session = service.sessions.running[0]
    until(lambda: session.frames > 10, "frames")
    link = client.ask("GET", path)[1]["stream"]
    waits, wait = list[float](), session.clock.wait
    monkeypatch.setattr(session.clock, "wait", lambda seconds: (waits.append(wait(seconds)), waits[-1])[1])
    frames, right = session.frames, time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    until(lambda: session.frames > frames + 25, "it goes on")
    assert session.ahead < session.lead.seconds  # it has not made a day's frames at once
    linked = Viewer(Client(client.port), path, "?" + link.partition("?")[2], limit=2000)
    linked.join()
    assert linked.status == 200
    client.ask("DELETE", path)
    viewer.join(60)
    assert not viewer.cut
    assert sum(waits) < DAY / 2  # a slow machine's, but not the clock's
    assert session.clock.now() < DAY / 2


def test_a_full_disk_refuses_a_clip_and_harms_no_session(client: Client, service: Service, speech: Callable) -> None:
    path = client.begin()
    viewer = Viewer(client, path)
    clip = speech(8.0).read_bytes()  # more than the lead: for a while, some waits
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        status, answer = client.ask("POST", f"{path}/audio", clip)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (status, answer["error"]["code"]) == (507, "no_storage")
    assert os.strerror(errno.EFBIG) in answer["error"]["message"]
    assert client.ask("POST", f"{path}/audio", clip)[0] == 202
    until(lambda: service.sessions.running[0].state == "speaking", "it speaks")
    client.ask("DELETE", path)
    viewer.join(60)
    assert not viewer.cut


def connected(client: Client, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=60)
    connection.sendall(sent)
    return connection


def everything(connection: socket.socket) -> bytes:
    """What it gets until it is closed."""
    with connection:
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_request_that_does_not_come_is_not_waited_for(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {client.authorization}\r\n".encode()
    answered = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    again = connected(client, answered)
    assert again.recv(4096).startswith(b"HTTP/1.1 200")  # in time
    monkeypatch.setattr(service, "settings", replace(service.settings, head_timeout=0.5))
    again.sendall(answered + b"G")
    silent, half, dripping = [everything(connected(client, sent)) for sent in (b"", b"GET / HT", head)]
    assert silent == half == dripping == b""
    assert everything(again).endswith(b'{"status":"ok"}')
    monkeypatch.undo()
    monkeypatch.setattr(service, "settings", replace(service.settings, body_timeout=0.5))
    body = b"Content-Type: application/json\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{"
    assert everything(connected(client, head + body)).startswith(b"HTTP/1.1 400")
    path = client.begin()
    monkeypatch.setattr(service, "settings", replace(service.settings, head_timeout=2.0))
    viewer = Viewer(client, path)
    until(lambda: service.sessions.running[0].frames > 80, "it is watched for longer than that")
    assert not viewer.cut
    assert service.sessions.viewers == 1


def test_slow_uploads_of_avatars_leave_room_for_clips(service: Service) -> None:
    with ExitStack() as uploads:
        for _ in range(4):
            uploads.enter_context(service.upload("avatar"))
        with pytest.raises(ServiceError, match="4 uploads are under way"):
            uploads.enter_context(service.upload("avatar"))
        uploads.enter_context(service.upload("clip"))


def test_an_upload_that_is_slower_than_the_rate_makes_room(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "settings", Settings(body_timeout=5.0, upload_rate=1 << 20))
    head = (
        f"POST /v1/sessions/audio?avatar=one HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        f"Authorization: {client.authorization}\r\nContent-Length: 9000000\r\n\r\n"
    )
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", client.port))) for _ in range(8)]
        for one in slow:
            one.sendall(head.encode() + bytes(1 << 20))  # a second's worth, on top of the 5 s that it has at most
        until(lambda: service._uploads["clip"] == len(slow), "all places are taken")
        until(lambda: client.ask("POST", "/v1/sessions/audio?avatar=one", b"x")[0] == 422, "there is room")
        for one in slow:
            one.settimeout(60)
            answer = one.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"an upload has to bring 1024 KiB a second" in answer


@pytest.mark.parametrize("owned", [True, False])
def test_a_session_that_nobody_watches_makes_room_for_one_that_was_refused(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    monkeypatch.setattr(sessions_module, "WANTED_IDLE_S", 2.0)
    watched, dead = client.begin(), client.begin()
    viewer, gone = Viewer(client, watched), Viewer(client, dead, limit=1)
    gone.join()
    speech = service.sessions.get(dead.rpartition("/")[2]).speech
    monkeypatch.setattr(type(speech), "speaking", property(lambda _: True))  # to nobody
    time.sleep(2.5)
    assert client.ask("GET", dead)[0] == 200  # nobody else wants its place
    if owned:
        token = next(iter(service.sessions.running)).owner
        assert token
        monkeypatch.setattr(token, "sessions", 2)
    assert client.ask("POST", "/v1/sessions", {"avatar": "one"})[0] == (429 if owned else 503)
    until(lambda: client.ask("GET", dead)[0] == 404, "the session of the dead has ended")
    assert client.ask("GET", watched)[0] == 200
    until(lambda: client.ask("POST", "/v1/sessions", {"avatar": "one"})[0] == 201, "there is room")
    client.ask("DELETE", watched)
    viewer.join(60)


def test_what_a_session_made_is_freed_at_its_end_and_not_when_cycles_are_collected(
    client: Client, service: Service
) -> None:
    gc.disable()
    try:
        path = client.begin()
        session = service.sessions.running[0]
        until(lambda: session.frames > 5, "it makes frames")
        chain = weakref.ref(session._session)
        client.ask("DELETE", path)
        session.join()
        made = session.frames
        until(lambda: chain() is None, "its chain is freed")
        assert session.frames == made > 5
    finally:
        gc.enable()


def test_a_bug_in_one_thing_does_not_let_sessions_live_for_ever(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = client.begin()
    asked = threading.Event()

    def figures() -> None:
        asked.set()
        raise KeyError

    monkeypatch.setattr(service.sessions.running[0], "figures", figures)
    until(asked.is_set, "it was looked after once")
    monkeypatch.undo()
    monkeypatch.setattr(service, "settings", Settings(idle=0.1))
    until(lambda: client.ask("GET", path)[0] == 404, "it ends")


def test_random_requests_break_nothing(bundle: Path, avatar: Path) -> None:
    """A few of the many that the script sends by itself."""
    pytest.importorskip("schemathesis")
    script = ROOT / "scripts/faults/fuzz_service.py"
    command = [sys.executable, str(script), str(bundle), str(avatar), "--requests", "64"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert (done.returncode, report["wrong"]) == (0, [])
    assert report["requests"] == 64
    assert {"200", "404", "422"} <= report["statuses"].keys()
