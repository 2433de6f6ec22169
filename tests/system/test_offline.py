"""No network at run time: commands in a network of their own, with a home of their own, which stays empty."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.isolated import COMMAND, hooked, isolated, permitted
from helpers.processes import BUILD, EDGE

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

pytestmark = pytest.mark.skipif(not permitted(), reason="no network namespace is permitted here")


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
def test_a_stream_asks_nobody(demo_talk: Path) -> None:
    """The demo's own speech, 13 s: long enough for what is sent a few seconds after the start."""
    report = json.loads((demo_talk / "report.json").read_text())
    assert report["status"] == 0, report
    assert (demo_talk / "talk.mp4").stat().st_size > 1000
    nobody_was_asked(report, demo_talk / "home")


def test_a_preparation_asks_nobody(home: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "face.png"), np.full((240, 320, 3), 128, np.uint8))
    prepare = ["prepare", tmp_path / "face.png", "-o", tmp_path / "face.avatar", "--face-box", "100,60,240,220"]
    report = isolated(COMMAND, *hooked(EDGE), *prepare, home=home)
    assert report["status"] == 0, report
    nobody_was_asked(report, home)


def test_building_engines_asks_nobody(modelset: Path, home: Path, tmp_path: Path) -> None:
    build = [modelset, "-o", tmp_path / "b", "--backend", "onnxruntime", "--batch-sizes", "1"]
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
