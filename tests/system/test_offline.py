"""No network at run time: commands in a network namespace without a route, where every try and look-up is counted.

Python's audit hooks see what Python looks up. A name server on loopback sees what native libraries look up as well.
The commands run with a home of their own, which stays empty, and without the variables by which a library takes the
machine for one of continuous integration and keeps quiet.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import BUILD, EDGE

OWN_NETWORK = ["unshare", "--map-root-user", "--net", "--mount"]
ISOLATED = """
import fcntl, json, os, socket, struct, subprocess, sys, tempfile, threading
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS: up
with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
    conf.write("nameserver 127.0.0.1\\n")
    conf.flush()
    os.chmod(conf.name, 0o644)
    subprocess.run(["mount", "--bind", conf.name, "/etc/resolv.conf"], check=True)
names = socket.socket(type=socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
looked_up = []
def serve_names():
    while True:
        question, client = names.recvfrom(4096)
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        looked_up.append(".".join(labels))
        names.sendto(question[:2] + b"\\x81\\x83" + question[4:6] + bytes(6) + question[12 : at + 5], client)
threading.Thread(target=serve_names, daemon=True).start()
def refused():
    lines = [line.split()[1:] for line in open("/proc/self/net/snmp") if line.startswith("Ip:")]
    six = dict(line.split() for line in open("/proc/self/net/snmp6"))
    return int(dict(zip(*lines))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])
def report(**more):
    print(json.dumps({"refused": refused(), "looked_up": looked_up, **more}))
"""
COMMAND = """
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
report(status=done.returncode, told=done.stderr)
"""
SESSION = """
import time, urllib.request as web
base = "http://127.0.0.1:8787"
def ask(path, body=None, kind="application/json", method=None):
    request = web.Request(base + path, body, {"Content-Type": kind} if body else {}, method=method)
    with web.urlopen(request, timeout=30) as answer:
        return answer.read()
with subprocess.Popen(sys.argv[2:], stderr=subprocess.PIPE, text=True) as serve:
    try:
        told = next(line for line in serve.stderr if "8787" in line)
        session = json.loads(ask("/v1/sessions", json.dumps({"avatar": "one", "fps": 10}).encode()))
        ask(session["audio"], open(sys.argv[1], "rb").read(), "audio/wav")
        for _ in range(600):
            generated = json.loads(ask("/v1/sessions/" + session["id"]))["generated"]
            if generated >= 1.5:
                break
            time.sleep(0.1)
        ask("/v1/sessions/" + session["id"], method="DELETE")
        serve.terminate()
        told += serve.stderr.read()
    finally:
        serve.kill()
report(generated=generated, told=told)
"""
HOOK = """
import sys
def heard(event, given):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request") and given[0] != "127.0.0.1":
        print("ASKED FOR", given[0], file=sys.stderr, flush=True)
sys.addaudithook(heard)
"""


def isolated(script: str, *arguments: object, home: Path | None = None) -> dict[str, Any]:
    """Run a script in a network of its own, where only loopback is up; what it reports."""
    command = [*OWN_NETWORK, sys.executable, "-c", ISOLATED + script, *map(str, arguments)]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(home)} if home else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def hooked(command: list[str]) -> list[str]:
    """`command`, one of tests/processes.py, which tells of every name that Python looks up."""
    return [*command[:-1], HOOK + command[-1]]


def _permitted() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _permitted(), reason="no network namespace is permitted here")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_try_to_connect_is_counted(address: str) -> None:
    report = isolated(
        "before = refused()\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "status = socket.socket(family).connect_ex((sys.argv[1], 80))\n"
        "report(status=status, counted=refused() - before)",
        address,
    )
    assert report["status"] == 101  # ENETUNREACH
    assert report["counted"] >= 1


def test_a_look_up_by_a_native_program_is_seen() -> None:
    report = isolated(COMMAND, "getent", "ahosts", "collector.example.org")
    assert "collector.example.org" in report["looked_up"]


@pytest.mark.slow
def test_a_stream_asks_nobody(home: Path, tmp_path: Path) -> None:
    """The demo's own speech, 13 s: long enough for what is sent a few seconds after the start."""
    report = isolated(COMMAND, *hooked(EDGE), "stream", "-o", tmp_path / "talk.mp4", home=home)
    assert report["status"] == 0, report
    assert (tmp_path / "talk.mp4").stat().st_size > 1000
    nobody_was_asked(report, home)


def test_a_preparation_asks_nobody(home: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "face.png"), np.full((240, 320, 3), 128, np.uint8))
    prepare = ["prepare", tmp_path / "face.png", "-o", tmp_path / "face.avatar", "--face-box", "100,60,240,220"]
    report = isolated(COMMAND, *hooked(EDGE), *prepare, home=home)
    assert report["status"] == 0, report
    nobody_was_asked(report, home)


def test_building_engines_asks_nobody(modelset: Path, home: Path, tmp_path: Path) -> None:
    build = [modelset, "-o", tmp_path / "b", "--backend", "onnxruntime"]
    report = isolated(COMMAND, *hooked(BUILD), *build, home=home)
    assert report["status"] == 0, report
    nobody_was_asked(report, home)


def test_a_session_of_the_service_asks_nobody(
    home: Path, bundle: Path, avatar: Path, speech: Callable[[float], Path]
) -> None:
    serve = ["serve", "--sessions", "1", f"-b{bundle}", f"-aone={avatar}"]
    report = isolated(SESSION, speech(1.0), *hooked(EDGE), *serve, home=home)
    assert report["generated"] >= 1.5, report
    nobody_was_asked(report, home)


def nobody_was_asked(report: dict[str, Any], home: Path) -> None:
    assert (report["refused"], report["looked_up"]) == (0, [])
    assert "ASKED FOR" not in report["told"]
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "package", ["musetalk_runtime", "musetalk_engines", "musetalk_export", "musetalk_distill", "musetalk_drawn"]
)
def test_every_package_turns_telemetry_off_unless_the_user_has_said_otherwise(package: str) -> None:
    code = f"import {package}, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    others = {name: value for name, value in os.environ.items() if not name.endswith("DISABLE_TELEMETRY")}
    for given, expected in (({}, "1 1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0 1")):
        command, environment = [sys.executable, "-c", code], {**others, **given}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
