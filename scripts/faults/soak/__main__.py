"""A soak test: a service is disturbed for as long as one likes. Does it go on, does it come back, does it grow?

    PYTHONPATH=runtime python scripts/faults/soak BUNDLE AVATAR [--minutes 60] [--seed 0] [-o soak]

Starts `musetalk-edge serve` under a supervisor, with its temporary files and its avatars on a file system of 96 MiB
(tmpfs, which takes root; else the fault "disk full" is left out). Sessions speak and are watched all the time, while a
schedule made from the seed brings stalled and vanishing viewers, speech that is none, killed workers, a full disk, a
service that stands still and, now and then, one that is killed. Writes soak.json and soak.png:

- frames that were missed or late, outside of faults and in those that no other viewer is to notice;
- how long after each fault every watcher had a fragment again; after a kill that holds the new process' start;
- memory, descriptors and threads of every process that lived long enough: after its first minute, and at its end.

Not measured: a browser's playback, a network, a GPU.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

from faults import HARMLESS, Faults, Unexpected
from plot import draw
from server import Server
from watcher import Watcher

from musetalk_runtime.diagnostics.synthetic import write_face_video, write_voice

PAUSES_S = (4.0, 10.0)  # seconds from the end of one fault to the next
SETTLE_S = 2.0  # seconds after a fault in which it may still be felt
WARM_UP_S = 60.0  # seconds at the beginning of a process that do not count; as long are the spans compared
MIN_LIFE_S = 180.0  # seconds that a process must have lived to be judged
DISK_SIZE = "96m"
VOICE_SECONDS = 5.0
RECOVERY_TIMEOUT_S = 60.0  # seconds that a watcher is waited for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="default: 60")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule (default: 0)")
    parser.add_argument("--sessions", type=int, default=2, help="default: 2")
    parser.add_argument("--kill-every", type=float, default=15.0, metavar="MINUTES", help="default: 15")
    parser.add_argument("-o", "--output", type=Path, default=Path("soak"), help="without its suffix (default: soak)")
    args = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        small = mount(stack, work / "disk")
        box = write_face_video(work / "face.mp4", 50)
        write_voice(work / "voice.wav", VOICE_SECONDS)
        options = ["-b", str(args.bundle), "-a", f"one={args.avatar}", "--avatars", str(work / "disk" / "avatars")]
        log = args.output.with_suffix(".log")
        log.unlink(missing_ok=True)
        (work / "disk" / "tmp").mkdir()
        server = Server([*options, "--sessions", str(args.sessions)], {"TMPDIR": str(work / "disk" / "tmp")}, log)
        stack.callback(server.close)
        server.wait_ready()
        voice = (work / "voice.wav").read_bytes()
        watchers = [Watcher(server, voice, VOICE_SECONDS) for _ in range(args.sessions)]
        faults = Faults(server, watchers, work / "disk", (work / "face.mp4").read_bytes(), ",".join(map(str, box)))
        done = disturb(faults, args, small)
        for watcher in watchers:
            watcher.stop()
    report = judge(server, watchers, done)
    report = {"minutes": args.minutes, "seed": args.seed, "machine": machine(), **report}
    args.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    draw(args.output.with_suffix(".png"), server, done, args.minutes * 60)
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=1))


def mount(stack: ExitStack, path: Path) -> bool:
    """Whether `path` is a small file system of its own now."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "soak", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        print("soak: no tmpfs: the disk will not be full", file=sys.stderr)
        return False
    stack.callback(subprocess.run, ["umount", "--lazy", str(path)], check=False)
    return True


def disturb(faults: Faults, args: argparse.Namespace, small: bool) -> list[dict[str, Any]]:
    """Follow the schedule to its end; gives what was done, when, and what was wrong then."""
    chance = random.Random(args.seed)  # noqa: S311
    kinds = [*(kind for kind in HARMLESS if small or kind != "disk full"), "freeze"]
    begun, killed = time.monotonic(), time.monotonic()
    done: list[dict[str, Any]] = []
    turn: list[str] = []
    while (now := time.monotonic()) - begun < args.minutes * 60:
        if not turn:
            turn = chance.sample(kinds, len(kinds))
        time.sleep(min(chance.uniform(*PAUSES_S), max(0.0, begun + args.minutes * 60 - now)))
        kind = turn.pop()
        if now - killed > args.kill_every * 60:
            kind, killed = "kill", now
        done.append(one(faults, kind, random.Random(chance.random())))  # noqa: S311
        print(f"{(time.monotonic() - begun) / 60:.1f} min: {done[-1]}", file=sys.stderr, flush=True)
    return done


def one(faults: Faults, kind: str, chance: random.Random) -> dict[str, Any]:
    """Do it, and wait until everybody is watching again."""
    do = HARMLESS.get(kind) or {"freeze": Faults.freeze, "kill": Faults.kill}[kind]
    begun, wrong = time.monotonic(), None
    try:
        do(faults, chance)
    except (Unexpected, OSError, HTTPException) as error:
        wrong = f"{type(error).__name__}: {error}"
    ended = time.monotonic()
    back = None
    while back is None and time.monotonic() - ended < RECOVERY_TIMEOUT_S:
        time.sleep(0.02)
        firsts = [next((at for at in watcher.arrivals[-50:] if at > ended), None) for watcher in faults.watchers]
        if None not in firsts:
            back = max(at for at in firsts if at) - ended
    zero = faults.server.begun
    return {
        "kind": kind,
        "begun": round(begun - zero, 2),
        "ended": round(ended - zero, 2),
        "recovered_seconds": None if back is None else round(back, 2),
        "wrong": wrong,
    }


def judge(server: Server, watchers: list[Watcher], done: list[dict[str, Any]]) -> dict[str, Any]:
    missed: defaultdict[str, int] = defaultdict(int)
    late: defaultdict[str, int] = defaultdict(int)
    for watcher in watchers:
        for at, frames in watcher.missed:
            missed[_during(at - server.begun, done)] += frames
        for at, _ in watcher.late:
            late[_during(at - server.begun, done)] += 1
    times: defaultdict[str, list[float]] = defaultdict(list)
    for fault in done:
        back = fault["recovered_seconds"]
        times[fault["kind"]].append(RECOVERY_TIMEOUT_S if back is None else back)
    return {
        "frames_seen": sum(watcher.frames for watcher in watchers),
        "frames_missed": dict(missed),
        "late_fragments": dict(late),
        "sessions_lost": sum(len(watcher.lost) for watcher in watchers),
        "faults": {
            kind: {"count": len(all_), "recovered_seconds_p50": statistics.median(all_), "most": max(all_)}
            for kind, all_ in sorted(times.items())
        },
        "wrong": [fault for fault in done if fault["wrong"] or fault["recovered_seconds"] is None],
        "ended_by_itself": [status for _, status in server.ends[:-1] if status != -9],
        "processes": [life for samples in server.samples.values() if (life := _life(samples))],
        "samples": {str(pid): samples[::5] for pid, samples in server.samples.items()},
    }


def _during(at: float, done: list[dict[str, Any]]) -> str:
    """The fault in or just after which a time is."""
    for fault in done:
        if fault["begun"] <= at <= fault["ended"] + max(SETTLE_S, (fault["recovered_seconds"] or 0) + 1):
            return str(fault["kind"])
    return "outside"


def _life(samples: list[tuple[float, float, int, int]]) -> dict[str, Any] | None:
    """What a process took in the minute after its first, and in its last: medians."""
    if not samples or samples[-1][0] - samples[0][0] < MIN_LIFE_S:
        return None
    after = [sample for sample in samples if sample[0] - samples[0][0] > WARM_UP_S]
    early = [sample for sample in after if sample[0] - after[0][0] < WARM_UP_S]
    last = [sample for sample in after if samples[-1][0] - sample[0] < WARM_UP_S]
    names = ("memory_mb", "descriptors", "threads")
    return {
        "seconds": round(samples[-1][0] - samples[0][0]),
        **{
            name: {
                "second_minute": round(statistics.median(sample[place] for sample in early), 1),
                "last_minute": round(statistics.median(sample[place] for sample in last), 1),
                "most": round(max(sample[place] for sample in after), 1),
            }
            for place, name in enumerate(names, 1)
        },
    }


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Linux"


if __name__ == "__main__":
    main()
