#!/usr/bin/env python3
"""An application that owns the main loop, and the CUDA context if there is one, and pulls frames from the runtime.

    python examples/own_loop.py BUNDLE AVATAR SPEECH -o frames.nv12 [--cuda]

Each turn of the loop is one frame of the display: the application pulls a frame, shows it (here: appends its NV12 to a
file) and does its own work. The runtime's threads stay a few frames ahead, so pulling does not wait unless the machine
is too slow; such turns are counted. ``--cuda`` makes a context and a stream as an application would that renders by
itself, and hands the stream over: the runtime composes on it, in order with the application's own work.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from musetalk_runtime import Avatar, Bundle, Frame, MuseTalkEdgeError, Session


class Application:
    """Stands for a program with a display: it shows one frame a turn."""

    def __init__(self, output: Path) -> None:
        self._screen = output.open("wb")
        self.shown = 0

    def show(self, frame: Frame) -> None:
        self._screen.write(frame.nv12.tobytes())
        self.shown += 1

    def close(self) -> None:
        self._screen.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cuda", action="store_true", help="own a CUDA context and stream (needs a GPU's bundle)")
    parser.add_argument("--fast", action="store_true", help="do not wait for the display")
    args = parser.parse_args()
    stream = own_stream() if args.cuda else None
    application = Application(args.output)
    late = 0
    with (
        Bundle.open(args.bundle, stream=stream) as bundle,
        Avatar.open(args.avatar) as avatar,
        Session(bundle, avatar, args.speech, fps=25) as session,
    ):
        frames = session.frames()
        first = next(frames, None)  # waits for the engines; the clock begins with it
        begun = time.monotonic()
        frame = first
        while frame is not None:
            due = begun + float(frame.pts)
            if not args.fast:
                late += time.monotonic() > due + 1 / float(session.fps)
                time.sleep(max(0.0, due - time.monotonic()))  # the application's own work, its events, its vsync
            application.show(frame)
            frame = next(frames, None)
    application.close()
    size = (avatar.width, avatar.height)
    print(json.dumps({"frames": application.shown, "size": size, "fps": float(session.fps), "late": late}))


def own_stream() -> Any:
    """A stream in the primary context, which PyCUDA, CuPy and PyTorch have as well."""
    from cuda.core import Device

    device = Device()
    device.set_current()
    return device.create_stream()


if __name__ == "__main__":
    try:
        main()
    except MuseTalkEdgeError as error:
        print(f"own_loop: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
