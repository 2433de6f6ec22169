#!/usr/bin/env python3
"""From process start to the first byte of a stream, and what takes the time.

    PYTHONPATH=runtime python scripts/bench/start.py [-b BUNDLE -a AVATAR --audio SPEECH] [--runs 7] > start.json

Starts `musetalk-edge stream -o -` as often as it is told, each time in a new process, and takes the time until its
stdout gives the first byte; without BUNDLE and AVATAR it is the demo that comes with the package. In one more process
the stages of a start are timed one by one, and in another Python tells what importing each library takes. Writes JSON.

Not measured: a first start after boot (the files are in the page cache), a package without bytecode, Python's own
start-up on its own (it is in `first_byte`: `python_ms`), a GPU's driver."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from musetalk_runtime.diagnostics.synthetic import write_voice

COMMAND = [sys.executable, "-c", "from musetalk_runtime.cli.main import main; raise SystemExit(main())"]
LIBRARIES = ("numpy", "av", "cv2", "onnxruntime", "tensorrt", "tensorrt_lean", "cuda", "PyNvVideoCodec", "fastapi")
STAGES = """
import json, sys, time
at = [time.perf_counter()]
def lap(): at.append(time.perf_counter()); return 1000 * (at[-1] - at[-2])
told = {}
from musetalk_runtime import Avatar, Bundle, Session
import musetalk_runtime.output.muxer, musetalk_runtime.audio.decode.file
told["import"] = lap()
bundle, avatar = Bundle.open(sys.argv[1]), Avatar.open(sys.argv[2])
told["open bundle and avatar, check their hashes"] = lap()
bundle.engines
told["import the engines' library"] = lap()
session = Session(bundle, avatar, sys.argv[3])
stream = session.stream()
next(stream)
told["load the engines, make and encode the first frames"] = lap()
first = {name: round(value, 1) for name, value in session.report()["first_ms"].items()}
stream.close()
session.close()
print(json.dumps({"stages_ms": {name: round(value, 1) for name, value in told.items()}, "first_frames_ms": first}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--bundle", type=Path)
    parser.add_argument("-a", "--avatar", type=Path)
    parser.add_argument("--audio", type=Path, help="(default: 10 s of a synthetic voice)")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    if (args.bundle is None) != (args.avatar is None) or args.runs < 1:
        parser.error("--bundle and --avatar go together, and there is one run at least")
    with tempfile.TemporaryDirectory() as folder:
        audio = args.audio or Path(folder) / "voice.wav"
        if args.audio is None:
            write_voice(audio, 10)
        print(json.dumps(measure(args.bundle, args.avatar, audio, args.runs), indent=1))


def measure(bundle: Path | None, avatar: Path | None, audio: Path, runs: int) -> dict[str, Any]:
    if bundle is None or avatar is None:
        try:
            from musetalk_runtime import demo
        except ImportError:
            sys.exit("no demo comes with this package: name --bundle and --avatar")
        bundle, avatar = demo.BUNDLE, demo.AVATAR
    command = ["stream", "-b", str(bundle), "-a", str(avatar), "--audio", str(audio), "-o", "-"]
    seconds = [first_byte([*COMMAND, *command]) for _ in range(runs)]
    staged = subprocess.run(
        [sys.executable, "-c", STAGES, bundle, avatar, audio], check=True, capture_output=True, text=True
    )
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}",
        "runs": runs,
        "first_byte_s": {
            "min": round(min(seconds), 3),
            "median": round(statistics.median(seconds), 3),
            "max": round(max(seconds), 3),
        },
        "python_ms": round(1000 * min(whole([sys.executable, "-c", ""]) for _ in range(runs)), 1),
        **json.loads(staged.stdout),
        "imports_ms": imports([*COMMAND, *command]),
    }


def first_byte(command: list[str]) -> float:
    """Seconds from starting `command` to the first byte on its stdout."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if not process.stdout or not process.stdout.read(1):
            sys.exit(f"no byte came from {' '.join(command)}")
        taken = time.perf_counter() - begun
        process.terminate()
    return taken


def whole(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begun


def imports(command: list[str]) -> dict[str, float]:
    """Milliseconds that each library takes to import, with what it brings, and all there are together."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    lines = re.findall(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)", done.stderr.decode())
    own = {name: int(cumulative) / 1000 for _, cumulative, _, name in lines if name in LIBRARIES}
    return {**own, "everything": sum(int(alone) for alone, *_ in lines) / 1000}


if __name__ == "__main__":
    main()
