"""No network at run time: a stream and a service in a network namespace without a route, where every try is counted."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OWN_NETWORK = ["unshare", "--map-root-user", "--net"]
LOOPBACK = """
import fcntl, socket, struct
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS: up
"""
HOOKED = """
import sys
def heard(event, given):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        print("ASKED FOR", given[0], file=sys.stderr, flush=True)
sys.addaudithook(heard)
from musetalk_runtime.cli.main import main
raise SystemExit(main())
"""
REFUSED = """
def refused():
    lines = [line.split()[1:] for line in open("/proc/self/net/snmp") if line.startswith("Ip:")]
    six = dict(line.split() for line in open("/proc/self/net/snmp6"))
    return int(dict(zip(*lines))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])
"""
SESSION = """
import json, subprocess, sys, time, urllib.request as web
base = "http://127.0.0.1:8787"
def ask(path, body=None, kind="application/json", method=None):
    request = web.Request(base + path, body, {"Content-Type": kind} if body else {}, method=method)
    with web.urlopen(request, timeout=30) as answer:
        return answer.read()
command = [sys.executable, sys.argv[1], "serve", "--sessions", "1", *sys.argv[2:4]]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serve:
    try:
        told = next(line for line in serve.stderr if "8787" in line)
        session = json.loads(ask("/v1/sessions", json.dumps({"avatar": "one", "fps": 10}).encode()))
        ask(session["audio"], open(sys.argv[4], "rb").read(), "audio/wav")
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
print(json.dumps([generated, told, refused()]))
"""


def alone(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a network of its own, where only loopback is up."""
    command = [*OWN_NETWORK, sys.executable, "-c", LOOPBACK + REFUSED + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _permitted() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _permitted(), reason="no network namespace is permitted here")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_try_to_connect_is_counted(address: str) -> None:
    done = alone(
        "import socket, sys\n"
        "before = refused()\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "status = socket.socket(family).connect_ex((sys.argv[1], 80))\n"
        "print(status, refused() - before)",
        address,
    )
    status, counted = map(int, done.stdout.split())
    assert status == 101  # ENETUNREACH
    assert counted >= 1


@pytest.fixture
def hooked(tmp_path: Path) -> Path:
    """The command, which tells of every name that is looked up."""
    (tmp_path / "hooked.py").write_text(HOOKED)
    return tmp_path / "hooked.py"


def test_a_stream_asks_nobody(
    hooked: Path, bundle: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path
) -> None:
    script = (
        "import json, subprocess, sys\n"
        "done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True)\n"
        "print(json.dumps([done.returncode, done.stderr, refused()]))"
    )
    out = tmp_path / "talk.mp4"
    command = ["stream", "-b", bundle, "-a", avatar, "--audio", speech(1.0), "-o", out]
    done = alone(script, hooked, *command)
    status, told, refused = json.loads(done.stdout)
    assert (status, refused) == (0, 0), told
    assert "ASKED FOR" not in told
    assert out.stat().st_size > 1000


def test_a_session_of_the_service_asks_nobody(
    hooked: Path, bundle: Path, avatar: Path, speech: Callable[[float], Path]
) -> None:
    served = (f"-b{bundle}", f"-aone={avatar}")
    done = alone(SESSION, hooked, *served, speech(1.0))
    assert done.stdout, done.stderr
    generated, told, refused = json.loads(done.stdout)
    assert (generated >= 1.5, refused) == (True, 0), told
    asked = {line.partition("ASKED FOR ")[2] for line in told.splitlines() if "ASKED FOR" in line}
    assert asked <= {"127.0.0.1"}, told
