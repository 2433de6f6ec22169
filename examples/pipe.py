#!/usr/bin/env python3
"""A process that speaks to the runtime through pipes: PCM in on its stdin, fragmented MP4 out on its stdout.

    python examples/pipe.py BUNDLE AVATAR -o talk.mp4 < speech.s16le

Only Python's standard library is used, so the same goes for any language. One thread writes what is heard (signed
16-bit little-endian mono PCM at 16 kHz), another reads the stream; were one to do both, full pipes would end in a
deadlock. Closing the runtime's stdin ends the stream with a whole file, and so does SIGTERM. Its stderr says in one
line what went wrong, its exit status whose fault it was: 2 the arguments or the input, 3 the machine, 1 a bug.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

PIECE = 3200  # bytes: 100 ms of speech


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runtime", default="musetalk-edge", help="the command (default: musetalk-edge)")
    args = parser.parse_args()
    command = [args.runtime, "stream", "-b", str(args.bundle), "-a", str(args.avatar), "--fps", "25"]
    command += ["--audio", "-", "-o", "-"]
    try:
        runtime = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        parser.error(f"--runtime {args.runtime}: {error.strerror}")
    assert runtime.stdin  # noqa: S101
    assert runtime.stdout  # noqa: S101
    speaker = threading.Thread(target=speak, args=(runtime.stdin,), daemon=True)
    speaker.start()
    received = pieces = 0
    with args.output.open("wb") as file:
        while piece := runtime.stdout.read1(1 << 16):  # what is there, without waiting for a full buffer
            file.write(piece)
            received, pieces = received + len(piece), pieces + 1
    status = runtime.wait()
    speaker.join(timeout=1)  # it may still wait for its own input, where the runtime has failed
    print(json.dumps({"status": status, "bytes": received, "pieces": pieces}))
    return 1 if status < 0 else status


def speak(runtime: BinaryIO) -> None:
    """Pass speech on as it comes, then say that there is no more."""
    try:
        while piece := os.read(sys.stdin.fileno(), PIECE):  # unbuffered: no lock is held when the process ends
            runtime.write(piece)
            runtime.flush()
        runtime.close()
    except BrokenPipeError:
        pass  # the runtime has ended: its status says why


if __name__ == "__main__":
    sys.exit(main())
