"""The appliance, booted: it speaks whatever is on its disk, and comes back whatever happens to its service."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.appliance import ASK, BOOTED, MARKS, STATE, Inside, booted, build, unpacked
from helpers.device_states import STATES, flipped, write_two_versions
from helpers.service_client import until
from musetalk_runtime.demo import AVATAR, BUNDLE

pytestmark = [*MARKS, BOOTED]
HANGING = """\
import os, sys, time
if "serve" in sys.orig_argv:
    import onnxruntime
    run = onnxruntime.InferenceSession.run
    def hang(*given, **options):
        while os.path.exists("/var/lib/musetalk-edge/hang"):
            time.sleep(0.1)
        return run(*given, **options)
    onnxruntime.InferenceSession.run = hang
"""  # the service's engines, while there is a certain file


@pytest.fixture(scope="module")
def inside(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with booted(root, tmp_path_factory.mktemp("boot")) as run:
        yield run


def shown(inside: Inside, what: str, unit: str = "musetalk-edge") -> str:
    return inside("systemctl", "show", unit, "--value", "-p", what)


def comes_back_after(inside: Inside, signal: str, seconds: float) -> None:
    before = shown(inside, "MainPID")
    inside("systemctl", "kill", f"--signal={signal}", "musetalk-edge")
    until(lambda: shown(inside, "MainPID") not in (before, "0"), "another process", seconds)
    until(lambda: shown(inside, "ActiveState") == "active", "it is ready again", 30)


def test_it_boots_into_a_face_that_speaks(inside: Inside) -> None:
    assert shown(inside, "Result", "musetalk-edge-engines") == "success"
    assert shown(inside, "User") == "musetalk-edge"
    assert inside("readlink", f"{STATE}/bundles/student/current")
    assert int(inside("python3", "-c", ASK)) > 50_000
    assert inside("systemctl", "--failed", "--plain", "--no-legend") == ""


def test_it_comes_back_when_it_is_killed(inside: Inside) -> None:
    comes_back_after(inside, "KILL", 30)
    assert int(inside("python3", "-c", ASK)) > 50_000


def test_the_watchdog_ends_what_stands_still(inside: Inside) -> None:
    comes_back_after(inside, "STOP", 90)
    assert "Watchdog timeout" in inside("journalctl", "--no-pager", "-u", "musetalk-edge")


def test_its_user_may_send_the_journal_to_who_helps(inside: Inside) -> None:
    file = f"{STATE}/help.tar.gz"
    inside("runuser", "-u", "musetalk-edge", "--", "/opt/musetalk-edge/bin/musetalk-edge", "doctor", "--support", file)
    assert "session begins" in inside("tar", "-xzOf", file, "help/log.txt")


def test_localhost_is_this_machine(inside: Inside) -> None:
    assert inside("python3", "-c", "import socket; print(socket.gethostbyname('localhost'))") == "127.0.0.1"


def test_an_avatar_that_is_damaged_while_it_runs_is_healed_before_the_next_start(inside: Inside) -> None:
    flip = "p='{}/avatars/anna/current/frames.mp4'; b=bytearray(open(p,'rb').read()); b[5000]^=1; open(p,'wb').write(b)"
    inside("python3", "-c", flip.format(STATE))
    comes_back_after(inside, "KILL", 30)
    assert int(inside("python3", "-c", ASK)) > 50_000
    assert "version 1 cannot be used: " in inside("journalctl", "--no-pager", "-u", "musetalk-edge-engines")


def test_engines_that_hang_are_ended_by_the_watchdog(root: Path, tmp_path: Path) -> None:
    packages = root / "usr/lib/python3/dist-packages"
    (packages / "hanging.py").write_text(HANGING)
    (packages / "zz-hanging.pth").write_text("import hanging\n")
    try:
        with booted(root, tmp_path) as inside:
            assert int(inside("python3", "-c", ASK)) > 50_000
            before = shown(inside, "MainPID")
            inside("touch", f"{STATE}/hang")
            until(lambda: shown(inside, "MainPID") != before, "it is ended", 90)
            inside("rm", f"{STATE}/hang")
            until(lambda: shown(inside, "ActiveState") == "active", "it is ready again", 60)
            assert int(inside("python3", "-c", ASK)) > 50_000
            said = inside("journalctl", "--no-pager", "-u", "musetalk-edge")
            assert "no frames: the watchdog was not fed" in said
            assert "Watchdog timeout" in said
    finally:
        (packages / "hanging.py").unlink()
        (packages / "zz-hanging.pth").unlink()


@pytest.mark.parametrize("what", sorted(STATES.keys() - {"the state is a file"}))
def test_it_boots_into_a_face_that_speaks_whatever_is_on_its_disk(root: Path, tmp_path: Path, what: str) -> None:
    state = tmp_path / "state"
    write_two_versions(state, BUNDLE, AVATAR)
    STATES[what](state)
    with booted(root, tmp_path) as inside:
        assert int(inside("python3", "-c", ASK)) > 50_000
        assert inside("systemctl", "--failed", "--plain", "--no-legend") == ""


@pytest.mark.parametrize("full", [True, False])
def test_a_disk_that_can_only_be_read_at_boot_keeps_it_from_nothing(root: Path, tmp_path: Path, full: bool) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if full:
        write_two_versions(state, BUNDLE, AVATAR)
        flipped(state / "avatars/anna/2/frames.mp4")
        subprocess.run(["chown", "-R", "990:990", state], check=True)
    subprocess.run(["mount", "--bind", state, state], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
        with booted(root, tmp_path) as inside:
            assert int(inside("python3", "-c", ASK)) > 50_000
            assert inside("sh", "-c", f"touch {STATE}/x 2>&1").endswith("Read-only file system")
    finally:
        subprocess.run(["umount", state], check=True)


@pytest.mark.parametrize(("variant", "runtime"), [("gpu", "tensorrt-lean"), ("gpu-rtx", "tensorrt-rtx-cu13-libs")])
def test_an_image_for_a_gpu_speaks_where_there_is_none(tmp_path: Path, variant: str, runtime: str) -> None:
    build(tmp_path / "image", variant)
    packages = json.loads((tmp_path / "image" / "sizes.json").read_text())["python_packages"]
    assert {runtime, "cuda-core", "onnxruntime"} <= {name.lower().replace("_", "-") for name in packages}
    with booted(unpacked(tmp_path / "image"), tmp_path) as inside:
        assert int(inside("python3", "-c", ASK)) > 50_000
