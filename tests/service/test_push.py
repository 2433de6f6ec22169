"""A session's stream, sent on to a server that listens."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import EDGE, starting_slowly
from helpers.service_client import Client, HeldPort, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session import push
from musetalk_runtime.service.settings import Settings

LISTEN = """\
import av, sys
options = {"flv": {"listen": "1"}, "rtsp": {"rtsp_flags": "listen", "listen_timeout": "60"}}.get(sys.argv[2], {})
container = av.open(sys.argv[1], format=sys.argv[2], options=options)
print("listening", [stream.type for stream in container.streams], flush=True)
for frame in container.decode():
    print(type(frame).__name__[:5], frame.pts, frame.time_base, flush=True)
print("end", flush=True)
"""


class Listener:
    """A media server for one stream, as a process: ``times`` of the frames of video that came, in seconds."""

    def __init__(self, url: str, form: str = "flv") -> None:
        command = [sys.executable, "-c", LISTEN, url, form]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.endswith("\n"):  # else it was killed meanwhile
                self.lines.append(line.strip())

    @property
    def times(self) -> list[float]:
        videos = [line.split() for line in self.lines if line.startswith("Video")]
        return [float(int(pts) * Fraction(base)) for _, pts, base in videos]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with HeldPort() as media, HeldPort() as deaf:
        yield {"media": media.port, "deaf": deaf.port}


@pytest.fixture
def port() -> Iterator[int]:
    with HeldPort() as held:
        yield held.port


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path, ports: dict[str, int]) -> Iterator[Service]:
    targets = {
        "media": f"rtmp://127.0.0.1:{ports['media']}/live/{{id}}?key=secret",
        "deaf": f"rtmp://127.0.0.1:{ports['deaf']}/live/x",
    }
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=4, targets=targets))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with serving(service) as running:
        yield Client(running.port)


@pytest.fixture
def quick(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = (0.2,) * 1000  # however long a server takes to listen
    monkeypatch.setattr(service, "settings", replace(service.settings, push_retry_waits=waits))


def states(client: Client, path: str) -> tuple[list[dict[str, Any]], threading.Thread]:
    """What is told of the push, as it comes."""
    heard: list[dict[str, Any]] = []

    events = client.events(path)
    next(events)

    def follow() -> None:
        for name, content in events:
            if name == "push":
                heard.append(content)

    thread = threading.Thread(target=follow)
    thread.start()
    return heard, thread


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_server_gets_the_frames_and_gets_them_again_after_a_restart(
    client: Client, service: Service, ports: dict[str, int], speech: Callable[[float], Path]
) -> None:
    path = client.begin(push="media")
    session = service.sessions.running[0]
    url = f"rtmp://127.0.0.1:{ports['media']}/live/{session.id}"
    heard, thread = states(client, path)
    until(lambda: session.push.state == "retrying", "nobody listens yet")
    first = Listener(url)
    try:
        whole = Viewer(client, path)
        assert client.ask("POST", f"{path}/audio", speech(2.0).read_bytes())[0] == 202
        until(lambda: len(first.times) > 30, "the server has frames")
        assert client.ask("GET", path)[1]["push"] == "connected"
    finally:
        first.close()
    until(lambda: session.push.state == "retrying", "the server is gone")
    second = Listener(url)
    try:
        until(lambda: len(second.times) > 30, "the server has frames again")
        assert session.running
        client.ask("DELETE", path)
        until(lambda: second.process.poll() is not None, "the stream ends")
    finally:
        second.close()
    whole.join(60)
    thread.join(60)
    for listener in (first, second):
        assert listener.lines[0] == "listening ['video', 'audio']"
        steps = {round(b - a, 3) for a, b in zip(listener.times, listener.times[1:], strict=False)}
        assert steps == {0.04}
        assert listener.times[0] < 0.1
    assert {told["to"] for told in heard} == {"media"}
    until(lambda: session.push.state == "ended", "the relay has ended")
    order = [told["state"] for told in heard if told["state"] != "retrying"]
    assert order[:2] == ["connected", "connected"]
    assert "secret" not in str(heard)
    assert not whole.cut
    assert service.metrics.count("frames_total") == session.frames


def test_a_server_that_is_not_there_is_given_up_and_harms_nobody(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = push.Push.send

    async def send_when_told_of(self: push.Push) -> None:
        while not self._events.subscribers:
            await asyncio.sleep(0.01)
        await send(self)

    monkeypatch.setattr(service, "settings", replace(service.settings, push_retry_waits=(0.1, 0.1)))
    monkeypatch.setattr(push.Push, "send", send_when_told_of)
    path = client.begin(push="deaf")
    session = next(session for session in service.sessions.running if path.endswith(session.id))
    heard, thread = states(client, path)
    until(lambda: session.push.state == "failed", "it is given up")
    assert session.running
    assert client.ask("GET", path)[1]["push"] == "failed"
    before = session.frames
    until(lambda: session.frames > before + 10, "the session goes on")
    client.ask("DELETE", path)
    thread.join(60)
    assert [told["state"] for told in heard] == ["retrying", "retrying", "failed"]
    assert all("refused" in told["message"] for told in heard)


def test_a_server_that_takes_nothing_is_cut_off(
    client: Client, service: Service, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(service.settings, push_stall_timeout=0.5, push_retry_waits=())
    monkeypatch.setattr(service, "settings", impatient)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stalled.bind(("127.0.0.1", ports["deaf"]))
        stalled.listen(1)
        path = client.begin(push="deaf")
        session = next(session for session in service.sessions.running if path.endswith(session.id))
        until(lambda: session.push.state == "failed", "it is given up")
        assert session.running
        client.ask("DELETE", path)
        until(lambda: not session.running, "the session ends")


@pytest.mark.slow
def test_the_servers_time_begins_when_the_relay_has_started(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "COMMAND", starting_slowly("musetalk_runtime.output.relay", 3))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        targets = {"mute": f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/x"}
        settings = replace(service.settings, targets=targets, push_stall_timeout=1.0, push_retry_waits=(100.0,))
        monkeypatch.setattr(service, "settings", settings)
        path = client.begin(push="mute")
        server.accept()[0].close()
        client.ask("DELETE", path)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["rtmp://127.0.0.1:{}/live/x", "rtsp://127.0.0.1:{}/x"])
def test_a_server_that_says_nothing_is_given_up_in_time(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """An idle session makes too few bytes to fill the pipe to the relay meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = replace(
            service.settings,
            targets={"mute": url.format(server.getsockname()[1])},
            push_stall_timeout=3.0,
            push_retry_waits=(100.0,),
        )
        monkeypatch.setattr(service, "settings", settings)
        path = client.begin(push="mute")
        session = next(session for session in service.sessions.running if path.endswith(session.id))
        heard, thread = states(client, path)
        began = session.frames
        until(lambda: session.push.state == "retrying", "it is told", 20)
        assert session.frames - began < 25 * 10
        before = session.frames
        until(lambda: session.frames > before + 10, "the session goes on")
        client.ask("DELETE", path)
        thread.join(60)
    assert heard[0] == {"to": "mute", "state": "retrying", "message": "the server said nothing for 3 s"}


def test_where_to_send_is_the_operator_s_choice(client: Client, service: Service) -> None:
    for name in ("other", "rtmp://evil.example/live", "file:///etc/passwd"):
        status, answer = client.ask("POST", "/v1/sessions", {"avatar": "one", "push": name})
        assert (status, answer["error"]["code"]) == (404, "unknown_target")
    assert not [session for session in service.sessions.running if not session.stopping]
    for targets in ({"a b": "rtmp://x/y"}, {"a": "file:///tmp/x"}, {"a": "rtmp://x/\ny"}, {"a": "x"}, {"a": "rtmp://"}):
        with pytest.raises(InvalidArgument):
            Settings(targets=targets)


@pytest.mark.slow
def test_the_relay_makes_another_container_of_the_same_packets(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], port: int
) -> None:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, Session(b, a, speech(2.0), fps=25) as session:
        data = b"".join(session.stream())
    listener = Listener(f"tcp://127.0.0.1:{port}?listen=1", "mpegts")
    try:
        line = f"tcp://127.0.0.1:{port}\n".encode()
        command = [sys.executable, "-m", "musetalk_runtime.output.relay"]
        for _ in range(50):
            done = subprocess.run(command, input=line + data, capture_output=True)
            if done.returncode == 0:
                break
        assert (done.returncode, done.stdout, done.stderr) == (0, b"started\nconnected\n", b"")
        until(lambda: "end" in listener.lines, "all has come")
    finally:
        listener.close()
    assert len(listener.times) == 50
    done = subprocess.run(command, input=b"file:///tmp/x\n" + data, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"started\nnot a URL that a stream can be sent to\n")


@pytest.mark.slow
def test_a_stream_goes_to_a_server_by_rtsp(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], port: int
) -> None:
    url = f"rtsp://127.0.0.1:{port}/live"
    listener = Listener(url, "rtsp")
    command = [*EDGE, "stream", "-b", bundle, "-a", avatar, "--fps", "25", "--audio", speech(2.0), "-o", url]
    try:
        for _ in range(50):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
        assert (done.returncode, done.stderr) == (0, "")
        until(lambda: sum(line.startswith("Video") for line in listener.lines) == 50, "all has come")
    finally:
        listener.close()
    assert listener.lines[0] == "listening ['video', 'audio']"
