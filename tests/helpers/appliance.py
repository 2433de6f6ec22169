"""The appliance's image: built, unpacked and booted in a container."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.service_client import until

SCRIPTS = ROOT / "scripts" / "appliance"
STATE = "/var/lib/musetalk-edge"
Inside = Callable[..., str]
BUILDS = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("mmdebstrap"), reason="needs root and mmdebstrap")
MARKS = [pytest.mark.appliance, pytest.mark.timeout(1800), BUILDS]
BOOTED = pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-nspawn")
ASK = (
    "import sys, urllib.request as u\n"
    "speech = open('/opt/musetalk-edge/lib/musetalk_runtime/demo_data/speech.wav', 'rb').read()\n"
    "session = u.urlopen('http://127.0.0.1:8787/v1/sessions/audio?avatar=anna', speech).read().decode()\n"
    "id = session.split('\"id\":\"')[1].split('\"')[0]\n"
    "print(len(u.urlopen(f'http://127.0.0.1:8787/v1/sessions/{id}/stream.mp4').read(100_000)))\n"
)


def build(folder: Path, variant: str = "cpu") -> None:
    opencv = os.environ.get("OPENCV_WHEEL")
    command = [SCRIPTS / "build", "-o", folder, "--variant", variant, *(["--opencv", opencv] if opencv else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def unpacked(image: Path) -> Path:
    folder = image.parent / "root"
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "-xf", image / "rootfs.tar"], check=True)
    return folder


@contextmanager
def booted(root: Path, folder: Path) -> Iterator[Inside]:
    """Gives what runs a command in the booted appliance, as root; it gives what the command printed.

    Its state is `folder`/state, which is made where it is not there.
    """
    (folder / "state").mkdir(exist_ok=True)
    boot = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {SCRIPTS}/boot {root} {folder}/state"]
    with (
        (folder / "console").open("wb") as console,
        subprocess.Popen(boot, stdout=console, stdin=subprocess.DEVNULL) as container,
    ):

        def run(*command: str) -> str:
            children = subprocess.run(
                ["pgrep", "-P", str(container.pid)], capture_output=True, text=True
            ).stdout.split()
            enter = ["nsenter", "-t", children[0] if children else "0", "-a", *command]
            return subprocess.run(enter, capture_output=True, text=True).stdout.strip()

        try:
            until(lambda: run("systemctl", "is-active", "musetalk-edge") == "active", "it is ready", 90)
            yield run
        finally:
            container.send_signal(signal.SIGTERM)
