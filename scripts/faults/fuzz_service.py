#!/usr/bin/env python3
"""A fuzzer of the service: ten thousand bad requests may crash, hang or leak nothing, nor harm a session beside them.

    PYTHONPATH=runtime python scripts/faults/fuzz_service.py BUNDLE AVATAR [--requests 10000] [--seed 0]

Starts `musetalk-edge serve`, has one session watched throughout, and sends half of the requests as schemathesis makes
them of the service's own description, in and out of its bounds, the other half as raw bytes: garbage, mutilated
requests, clips and WebSockets, cut off anywhere. Writes JSON, and ends with status 1 if something is wrong: a status of
5xx but 503 and 507, no answer, a traceback, a gap for who watches, or descriptors, threads or memory that stay.
"""

import argparse
import json
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import requests
import schemathesis
from bench.service import Health, counter, look
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from load.service import Service, serving
from load.viewer import Viewer
from schemathesis import Case, GenerationMode

from musetalk_runtime.diagnostics.synthetic import write_voice

ANSWER_TIMEOUT_S = 20.0  # seconds for an answer
ENDLESS = re.compile(r"/(stream\.mp4|events)$")  # an answer without end
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
BEGUN = re.compile(rb'"id":"([A-Za-z0-9_-]+)"')
MAX_GROWTH = {"descriptors": 8, "threads": 8, "memory_mb": 100.0}  # that may be in use more at the end than before
ALLOWED_5XX = (503, 507)
SESSION = {"avatar": "anna", "fps": 10}
ANSWER_S, BEGIN_S = 0.2, 2.0  # and for one to bytes that may be no request, or one that begins a session
BYTE_SENDERS = 4  # threads that send raw bytes
SETTLE_S = 2.0  # seconds after which what has ended is gone
MAX_CASES = 25  # cases of one operation before the next one is tried
KEY = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + b"A" * 22
    + b"==\r\n"
)


class Fuzz:
    """What was sent and what came of it: ``statuses``, and ``wrong``, in words."""

    def __init__(self, service: Service, wanted: int, voice: bytes, begin: int) -> None:
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.sent = 0
        self._service, self._wanted, self._voice, self._seed = service, wanted, voice, begin
        self._ours: deque[str] = deque()  # sessions to be maltreated
        self._lock = threading.Lock()

    def run(self) -> None:
        """Both halves at once."""
        voices = [threading.Thread(target=self._raw, args=(part,)) for part in range(BYTE_SENDERS)]
        voices.append(threading.Thread(target=self._described))
        for voice in voices:
            voice.start()
        for voice in voices:
            voice.join()

    def _note(self, what: str, status: int | None) -> None:
        with self._lock:
            self.sent += 1
            self.statuses[str(status)] += 1
            if status and status >= 500 and status not in ALLOWED_5XX:
                self.wrong.append(f"{status} to {what[:300]}")

    def _session(self) -> str:
        """The id of a session, one that is there if that can be."""
        with self._lock:
            if self._ours and self._service.ask("GET", f"/v1/sessions/{self._ours[0]}")[0] != 200:
                self._ours.popleft()
            if not self._ours:
                status, answer = self._service.ask("POST", "/v1/sessions", SESSION)
                if status != 201:
                    return "x" * 24
                self._ours.append(answer["id"])
            return self._ours[0]

    def _described(self) -> None:
        schema = schemathesis.openapi.from_dict(self._service.ask("GET", "/v1/openapi.json")[1])
        found = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
        operations = [one for one in found if not one.path.endswith(("/audio", "/whep"))]  # whose bodies are no JSON
        done = number = 0
        few = max(1, min(MAX_CASES, self._wanted // 4 // len(operations)))
        with requests.Session() as client:
            client.trust_env = False
            while done < self._wanted // 2:
                for operation in operations:
                    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                        number += 1
                        made = cases(operation, mode, self._seed + number, few)  # type: ignore[arg-type]
                        for case in made[: self._wanted // 2 - done]:
                            self._send(client, case, number % 3 > 0)
                            done += 1

    def _send(self, client: requests.Session, case: Case, known: bool) -> None:
        if known and "id" in case.path_parameters:
            case.path_parameters["id"] = self._session()
        request = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{self._service.port}")
        what = f"{request['method']} {request['url']} {request.get('params')} {request.get('json')}"
        try:
            with client.request(**request, stream=True, timeout=ANSWER_TIMEOUT_S) as answer:
                body = next(answer.iter_content(2048), b"") if ENDLESS.search(case.path) else answer.content
        except requests.Timeout:
            self.wrong.append(f"no answer to {what[:300]}")
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, ValueError):  # or it cannot be sent
            self._note(what, None)
        else:
            self._note(what, answer.status_code)
            if answer.status_code == 201:
                self._keep(json.loads(body)["id"])

    def _keep(self, session: str) -> None:
        """Maltreat one more session, instead of an older one."""
        with self._lock:
            self._ours.append(session)
            if len(self._ours) > 2:
                self._service.ask("DELETE", f"/v1/sessions/{self._ours.popleft()}")

    def end(self) -> None:
        """End what the requests began, and wait until it has ended."""
        for session in self._ours:
            self._service.ask("DELETE", f"/v1/sessions/{session}")
        self._ours.clear()
        for avatar in self._service.ask("GET", "/v1/avatars")[1]:
            if avatar["uploaded"]:
                self._service.ask("DELETE", f"/v1/avatars/{avatar['name']}")
        until = time.monotonic() + ANSWER_TIMEOUT_S
        while counter(self._service.ask("GET", "/metrics")[1], "musetalk_sessions") > 1:  # but the one that is watched
            if time.monotonic() > until:
                self.wrong.append("sessions do not end")
                return
            time.sleep(0.1)
        time.sleep(SETTLE_S)

    def _raw(self, part: int) -> None:
        chance = random.Random(self._seed * BYTE_SENDERS + part)  # noqa: S311 - it is to be the same again
        for _ in range(self._wanted // 2 // BYTE_SENDERS):
            data = chance.choice((garbage, mutilated, spoken))(chance, self._session(), self._voice)
            try:
                status = self._throw(data, chance.random())
            except OSError:
                status = None
            self._note(repr(data), status)

    def _throw(self, data: bytes, way: float) -> int | None:
        """Send `data` in two parts, and read what comes; the highest status in that, if any."""
        begins = b"/v1/sessions H" in data
        with socket.create_connection(("127.0.0.1", self._service.port), ANSWER_TIMEOUT_S) as connection:
            cut = int(len(data) * way)
            connection.sendall(data[:cut])
            connection.sendall(data[cut:])
            if way < 0.2 and not begins:  # gone, with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return None
            connection.settimeout(BEGIN_S if begins else ANSWER_S)
            answer = b""
            with suppress(TimeoutError):  # it may be no whole request
                while len(answer) < 4096 and (piece := connection.recv(4096)):
                    answer += piece
                    connection.settimeout(ANSWER_S)
        for session in BEGUN.findall(answer) if b" 201 " in answer else ():
            self._keep(session.decode())
        statuses = [int(status) for status in STATUS.findall(answer)]
        return max(statuses, default=None)


def cases(operation: Any, mode: GenerationMode, number: int, count: int) -> list[Case]:
    """`count` cases of an operation at most; none where there are none of that kind."""
    made: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        made.append(case)

    with suppress(Unsatisfiable):
        collect()
    return made


def garbage(chance: random.Random, _session: str, _voice: bytes) -> bytes:
    return chance.randbytes(chance.randrange(2000))


def mutilated(chance: random.Random, session: str, voice: bytes) -> bytes:
    """A good request with some bytes changed, taken out or put in."""
    path = f"/v1/sessions/{session}"
    clip = bytearray(voice[: chance.randrange(len(voice))])
    for _ in range(chance.randrange(20)):
        clip[chance.randrange(len(clip)) if clip else 0 :][:1] = chance.randbytes(1)
    body = b'{"avatar": "anna", "fps": 10}'
    whole = chance.choice(
        [
            request("GET", f"{path}/stream.mp4?from={chance.randrange(99)}"),
            request("GET", f"{path}/stream.mp4", f"Range: bytes={chance.randrange(99999)}-\r\n"),
            request("GET", f"{path}/hls/{chance.randrange(9)}.m4s"),
            request("POST", f"{path}/interrupt"),
            request("POST", "/v1/sessions", "Content-Type: application/json\r\n", body),
            request("POST", f"{path}/audio", "Content-Type: audio/wav\r\n", bytes(clip)),
            request("GET", f"{path}/events"),
            request("GET", "/metrics") * 3,
        ]
    )
    data = bytearray(whole)
    for _ in range(chance.randrange(4)):
        at, change = chance.randrange(min(len(data), 400)), chance.randrange(3)
        data[at : at + (change != 1)] = chance.randbytes(change > 0)
    return bytes(data)


def spoken(chance: random.Random, session: str, voice: bytes) -> bytes:
    """A WebSocket, and frames good and bad."""
    codec = chance.choice(["", "?codec=opus", "?codec=ogg", "?full=end", "?codec=mp3"])
    head = request("GET", f"/v1/sessions/{session}/audio{codec}", KEY.decode())
    frames = b"".join(
        chance.choice(
            [
                frame(2, voice[: 2 * chance.randrange(9000)]),
                frame(chance.randrange(16), chance.randbytes(chance.randrange(300))),
                chance.randbytes(40),
            ]
        )
        for _ in range(chance.randrange(5))
    )
    return head + frames


def request(method: str, path: str, headers: str = "", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n".encode() + body


def frame(kind: int, data: bytes) -> bytes:
    """A WebSocket frame as a client sends it, masked with zeros."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + bytes(4) + data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--requests", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        write_voice(Path(work) / "voice.wav", 1.0)
        options = ["-b", str(args.bundle), "-a", f"anna={args.avatar}"]
        options += ["--sessions", "4", "--avatars", f"{work}/avatars"]
        with serving(*options) as service:
            report = measure(service, args, (Path(work) / "voice.wav").read_bytes())
    print(json.dumps(report, indent=1))
    return int(bool(report["wrong"]))


def measure(service: Service, args: argparse.Namespace, voice: bytes) -> dict[str, Any]:
    watched = service.ask("POST", "/v1/sessions", SESSION)[1]["id"]
    viewer = Viewer(service.open("GET", f"/v1/sessions/{watched}/stream.mp4"))
    first = Fuzz(service, min(100, args.requests), voice, args.seed + 1_000_000)  # so that all is loaded
    first.run()
    first.end()
    before, health, begun = look(service.pid), Health(service), time.monotonic()
    fuzz = Fuzz(service, args.requests, voice, args.seed)
    fuzz.run()
    spent = time.monotonic() - begun
    health.stop()
    fuzz.end()
    after, wrong = look(service.pid), list(fuzz.wrong)
    wrong += [
        f"{name}: {before[name]} before, {after[name]} after"
        for name in MAX_GROWTH
        if after[name] > before[name] + MAX_GROWTH[name]
    ]
    wrong += ["the service ended"] * service.ended
    wrong += ["a traceback"] * any("Traceback" in line for line in service.lines)
    seen = viewer.seconds
    status = service.ask("DELETE", f"/v1/sessions/{watched}")[0]
    viewer.join(ANSWER_TIMEOUT_S)
    if status != 204 or viewer.is_alive() or viewer.gaps or viewer.keyframes_missed or seen < spent / 2:
        wrong.append(f"the viewer beside it: {status=}, {viewer.gaps=}, {viewer.keyframes_missed=}, {seen=:.1f}")
    return {
        "requests": fuzz.sent,
        "seconds": round(spent, 1),
        "statuses": dict(sorted(fuzz.statuses.items())),
        "healthz_p99_ms": round(float(np.percentile(health.milliseconds, 99)), 1),
        "before": before,
        "after": after,
        "over_time": health.process[:: max(1, len(health.process) // 10)],
        "log": Counter(re.sub(r"\S*\d\S*", "#", line.strip()) for line in service.lines).most_common(12),
        "wrong": wrong,
    }


if __name__ == "__main__":
    raise SystemExit(main())
