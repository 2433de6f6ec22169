"""Commands in a network namespace without a route, where every try and look-up is counted.

Python's audit hooks see what Python looks up. A name server on loopback sees what native libraries look up as well.
The commands run with a home of their own, and without the variables by which a library takes the machine for one of
continuous integration and keeps quiet.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    """`command`, one of helpers/processes.py, which tells of every name that Python looks up."""
    return [*command[:-1], HOOK + command[-1]]


def permitted() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode == 0
