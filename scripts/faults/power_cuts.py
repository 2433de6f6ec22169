#!/usr/bin/env python3
"""Kill what changes a device at random moments, damage its disk, and see whether the device starts.

    PYTHONPATH=engines:runtime python scripts/faults/power_cuts.py MODELSET WORK [--cuts 200] [--seed 0]
        [--damage] [--serve]

WORK is made anew and becomes a device: a bundle and an avatar in versions, and one of each that build-engines and
musetalk-edge prepare replace. In turn `prepare`, `build-engines` (ONNX Runtime), `update` and `rollback` are killed
by SIGKILL, in turn at a random time of their run, before a random one of the calls by which they open files, change
the disk or wait for it, and before a random one of the last of these, among which is the switch from old to new. After
each every bundle and avatar on the device must be whole, the old or the new, and the device must start: with --serve by
a real service that says it is ready, else by a session that makes frames. Writes JSON.

With --damage, a file or link of the versions of its bundle and avatar is damaged after each cut: a bit is another, it
is cut, it is empty, or it is gone. The device starts with what `musetalk-edge provision` finds then. This is also
killed, as a fifth operation, on a disk that was damaged before it.

Not measured: what a disk loses of that which was not synced to it. tests/runtime/test_durable.py looks at the order
instead.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.diagnostics.self_test import open_any
from musetalk_runtime.diagnostics.synthetic import write_face_video, write_voice
from musetalk_runtime.session import Session
from musetalk_runtime.storage.folder import MANIFEST, sha256
from musetalk_runtime.update.versions import Versions

OPERATIONS = ("prepare", "build-engines", "update", "rollback")
DAMAGES = ("a bit is another", "cut", "empty", "gone")
MOMENTS = ("by time", "at a call", "at one of the last calls")
LAST = 6  # calls, of which the last is the process' end
FRAMES = 40  # of the video that is prepared
NOT_MEASURED = ["what a disk loses of that which was not synced to it"]
# Runs a command, counts its calls about files below a folder, and kills itself before a certain one.
WATCHED = """
import os, sys
folder, count_file, last, program, *arguments = sys.argv[1:]
CHANGES = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.chmod"}
calls = 0
def count():
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), 9)
def watch(event, given):
    inside = event in {"os.remove", "os.rmdir"} and len(given) > 1 and given[1] != -1  # of a tree that is removed
    if event in CHANGES and (inside or folder in str(given[0])):
        count()
if program == "build-engines":
    from musetalk_engines.cli import main
else:
    from musetalk_runtime.cli.main import main
sys.addaudithook(watch)
status = main(arguments)
count()
open(count_file, "w").write(str(calls))
sys.exit(status)
"""
SERVE = "from musetalk_runtime.cli.main import main; raise SystemExit(main())"


class Device:
    """The folders of a device, and what is done to them. It begins with `bundle`, or one built from `modelset`."""

    def __init__(self, work: Path, modelset: Path, bundle: Path | None = None) -> None:
        self.root = work / "device"
        self.root.mkdir(parents=True)
        self.modelset, self._source = modelset, work / "face.mp4"
        self._voice, self._count = work / "voice.wav", work / "calls"
        self.bundles, self.avatars = Versions(self.root / "bundles/student"), Versions(self.root / "avatars/anna")
        self.image = work / "image"
        self.built, self.made = self.root / "built.bundle", self.root / "made.avatar"
        self._box, self._faces = write_face_video(self._source, FRAMES), 0
        write_voice(self._voice, 0.6)
        if bundle:
            shutil.copytree(bundle, self.built)
        else:
            self.run("build-engines", self.commands()["build-engines"])
        self.bundles.add(self.built, _quiet)
        self.bundles.started(1)
        self.run("prepare", self.commands()["prepare"])
        self.avatars.add(self.made, _quiet)
        self.avatars.started(1)
        shutil.copytree(self.built, self.image / "cpu.bundle")
        shutil.copytree(self.made, self.image / "avatars/anna")

    def commands(self) -> dict[str, list[str]]:
        """The arguments of each operation; those of a folder of versions are for the bundles or the avatars in turn.

        Each face is a little lower than the last, so that no two avatars are the same.
        """
        self._faces += 1
        left, top, right, bottom = self._box
        box = left, top + self._faces % 40, right, bottom + self._faces % 40
        prepare = [str(self._source), "-b", str(self.bundles.path / "current"), "-o", str(self.made)]
        which = (self.bundles, self.built), (self.avatars, self.made)
        versions, new = which[(self.bundles.current or 0) > (self.avatars.current or 0)]
        return {
            "prepare": ["prepare", *prepare, "--face-box=" + ",".join(map(str, box))],
            "build-engines": [str(self.modelset), "-o", str(self.built), "--backend", "onnxruntime"],
            "update": ["update", str(versions.path), str(new)],
            "rollback": ["rollback", str(versions.path)],
            "provision": ["provision", "--state", str(self.root), "--image", str(self.image)],
        }

    def run(self, program: str, arguments: list[str], last: int = 0, seconds: float | None = None) -> tuple[bool, int]:
        """Run to the end, or until it is killed: before its call `last`, or after `seconds`; whether it was, and the
        calls of one that was not.
        """
        command = [sys.executable, "-c", WATCHED, str(self.root), str(self._count), str(last), program, *arguments]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        ) as ran:
            try:
                _, said = ran.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(ran.pid, signal.SIGKILL)
                ran.communicate()
                return True, 0
        if ran.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{program} ended with {ran.returncode}: {said.decode()[-500:]}")
        return ran.returncode != 0, int(self._count.read_text()) if ran.returncode == 0 else 0

    def make_ready(self, operation: str) -> list[str]:
        """The arguments of `operation`, once there is something that it can do."""
        if operation == "rollback":
            program, *arguments = self.commands()["update"]
            self.run(program, [program, *arguments])
            versions = Versions(Path(arguments[0]))
            versions.started(versions.current or 0)
            return ["rollback", arguments[0]]
        return self.commands()[operation]

    def damage(self, chance: random.Random) -> str:
        """Damage one of the files and links of its versions; gives what was done."""
        folders = [self.bundles.path, self.avatars.path]
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_symlink() or path.is_file())
        file, what = chance.choice(files), chance.choice(DAMAGES)
        if what == "gone" or file.is_symlink():
            file.unlink()
            what = "gone"
        elif what == DAMAGES[0] and (size := file.stat().st_size):
            with file.open("r+b") as opened:
                opened.seek(chance.randrange(size))
                byte = opened.read(1)[0] ^ (1 << chance.randrange(8))
                opened.seek(-1, os.SEEK_CUR)
                opened.write(bytes([byte]))
        else:
            os.truncate(file, chance.randrange(max(1, file.stat().st_size)) if what == "cut" else 0)
        return what

    def heal(self) -> None:
        """Provision it; raises RuntimeError where it would not serve what was made for it."""
        command = [sys.executable, "-c", SERVE, *self.commands()["provision"], "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or json.loads(done.stdout)["avatars"] != {"anna": str(self.avatars.path / "current")}:
            raise RuntimeError(f"it was not provisioned: {done.stdout[-300:]} {done.stderr[-500:]}")

    def state(self) -> dict[str, str]:
        """What every name on the device stands for; raises MuseTalkEdgeError where it is not whole."""
        found = {}
        for path in (self.built, self.made, self.bundles.path / "current", self.avatars.path / "current"):
            with open_any(path) as opened:
                found[path.name if path.name != "current" else path.parent.name] = sha256(opened.path / MANIFEST)
                found[f"{path}, leads to"] = opened.path.name
        return found

    def start(self, serve: bool) -> None:
        """Raises RuntimeError unless it speaks."""
        bundle, avatar = self.bundles.path / "current", self.avatars.path / "current"
        if not serve:
            with Bundle.open(bundle) as engines, Avatar.open(avatar) as face:
                frames = self._speak(engines, face)
            if frames < 10:
                raise RuntimeError(f"the session made {frames} frames")
            return
        options = ["-b", str(bundle), "-a", f"anna={avatar}", "-a", f"made={self.made}", "--port", "0"]
        with subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", *options], stderr=subprocess.PIPE, text=True
        ) as run:
            try:
                said = run.stderr.readline() if run.stderr else ""
            finally:
                run.kill()
        if " holds " not in said:
            raise RuntimeError(f"the service did not start: {said}")

    def _speak(self, bundle: Bundle, avatar: Avatar) -> int:
        with Session(bundle, avatar, self._voice, 25) as session:
            return sum(1 for _ in session.frames())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modelset", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cuts", type=int, default=200, help="default: 200")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument(
        "--damage", action="store_true", help="damage the disk after each cut, and provision the device"
    )
    parser.add_argument("--serve", action="store_true", help="start a real service after each")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    device, chance = Device(args.work, args.modelset), random.Random(args.seed)  # noqa: S311
    operations = (*OPERATIONS, "provision") if args.damage else OPERATIONS
    report = cut(device, args.cuts, chance, args.serve, operations, args.damage)
    print(json.dumps({"seed": args.seed, "machine": machine(), **report, "not_measured": NOT_MEASURED}, indent=1))
    sys.exit(0 if report["whole"] == report["started"] == args.cuts else 1)


def cut(
    device: Device, cuts: int, chance: random.Random, serve: bool, operations: tuple[str, ...], damage: bool = False
) -> dict[str, Any]:
    """What became of the device in so many cuts; ends early where it does not start."""
    begun = time.monotonic()
    lengths: dict[str, tuple[float, int]] = {}  # of whole runs: seconds, and calls
    outcomes: dict[str, Counter[str]] = {operation: Counter() for operation in operations}
    damages: Counter[str] = Counter()
    failures: list[str] = []
    whole = started = 0
    for number in range(cuts):
        operation = operations[number % len(operations)]
        what = MOMENTS[number // len(operations) % len(MOMENTS)]
        killed = False
        while not killed:  # a run that was faster than its moment is none
            arguments = device.make_ready(operation)
            before = device.state()
            of_versions = operation in ("update", "rollback")
            subject = f"{operation} of {Path(arguments[1]).name}" if of_versions else operation
            if operation == "provision":
                damages[device.damage(chance)] += 1
            if subject not in lengths:
                lengths[subject] = measure(device, operation, arguments)
                continue
            seconds, calls = lengths[subject]
            last = chance.randint(max(1, calls - LAST + 1) if what == MOMENTS[2] else 1, calls)
            moment = {"seconds": chance.uniform(0, seconds)} if what == MOMENTS[0] else {"last": last}
            killed, _ = device.run(operation, arguments, **moment)
        try:
            if operation == "provision":
                device.heal()
            after = device.state()
            whole += 1
            if damage:
                damages[device.damage(chance)] += 1
                device.heal()
            device.start(serve)
            started += 1
        except (MuseTalkEdgeError, RuntimeError) as error:
            failures.append(f"{operation} {moment}: {error}")
            break
        outcomes[operation][f"{what}, {'old' if after == before else 'new'}"] += 1
        print(f"{number + 1} of {cuts}: {operation} {what}", file=sys.stderr, flush=True)
    return {
        "cuts": sum(sum(counts.values()) for counts in outcomes.values()),
        "whole": whole,
        "started": started,
        "started_by": "musetalk-edge serve" if serve else "a session",
        "failures": failures,
        "outcomes": {operation: dict(sorted(counts.items())) for operation, counts in outcomes.items()},
        "run": {subject: {"seconds": round(s, 2), "calls": calls} for subject, (s, calls) in lengths.items()},
        "damages": dict(sorted(damages.items())),
        "left_over": sum(path.is_dir() for path in device.root.rglob(".*.partial")),
        "seconds": round(time.monotonic() - begun),
    }


def measure(device: Device, operation: str, arguments: list[str]) -> tuple[float, int]:
    """How long a whole run takes, in seconds, and its calls."""
    begun = time.monotonic()
    _, calls = device.run(operation, arguments)
    return time.monotonic() - begun, calls


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Linux"


def _quiet(_: str) -> None:
    """Progress that nobody reads."""


if __name__ == "__main__":
    main()
