#!/usr/bin/env python3
"""How fast an avatar in a conversation answers, and how fast it is silent, without a network and a framework.

    PYTHONPATH=runtime python scripts/bench/agents.py [BUNDLE AVATAR] [--turns 20] [--service]

The frames are made in this process, or by a service in one of its own, over loopback (`--service`).

Speech is pushed at moments of their own, and interrupted after a second. Writes JSON, in seconds: from the push to the
frame with the first sample (`answer_s`), from an interruption to the first frame that ends in silence (`silent_s`) and
to the first frame with the avatar's own picture (`closed_s`), and from a frame to the next (`interval_s`). Frames are
counted as they are handed to the framework: what it, the network and the browser take comes on top. `load` is the share
of all cores that was busy meanwhile, with other processes.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from load.service import busy_seconds, serving

from musetalk_runtime import Avatar
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.live_avatar import AvatarFrame, LiveAvatar
from musetalk_runtime.integrations.remote_stream import RemoteAvatarStream

FPS = 25
AUDIBLE = 0.005  # of full scale, of a frame's sound
STEP = 4  # every how many pixels a picture is compared with the avatar's own
OWN = {False: 0.05, True: 1.0}  # how much it may differ on average; more where it has been through an encoder


class Bench:
    """Turns with one avatar, and the seconds that were measured."""

    def __init__(self, stream: LiveAvatar, avatar: Avatar, by_service: bool) -> None:
        self._stream = stream
        self._own = np.stack([_sparse(avatar.frame(number)) for number in range(len(avatar))])
        self._most = OWN[by_service]
        self.seconds: dict[str, list[float]] = {"answer_s": [], "silent_s": [], "closed_s": [], "interval_s": []}

    async def run(self, turns: int) -> None:
        frames = self._timed()
        speech = demo_speech()
        for _ in range(turns):
            for _ in range(random.randint(15, 40)):  # noqa: S311 - no secret
                await anext(frames)
            await asyncio.sleep(random.random() * 0.04)  # noqa: S311 - no secret
            pushed = time.monotonic()
            self._stream.push(speech, SAMPLE_RATE)
            self._stream.flush()
            self.seconds["answer_s"].append(await self._until(frames, audible) - pushed)
            for _ in range(25):
                await anext(frames)
            cut = time.monotonic()
            self._stream.interrupt()
            self.seconds["silent_s"].append(await self._until(frames, fades) - cut)
            self.seconds["closed_s"].append(await self._until(frames, self._closed) - cut)

    async def _timed(self) -> AsyncIterator[AvatarFrame]:
        before = None
        async for frame in self._stream.frames():
            now = time.monotonic()
            if before is not None:
                self.seconds["interval_s"].append(now - before)
            before = now
            yield frame

    async def _until(self, frames: AsyncIterator[AvatarFrame], condition: Callable[[AvatarFrame], bool]) -> float:
        while not condition(await anext(frames)):
            pass
        return time.monotonic()

    def _closed(self, frame: AvatarFrame) -> bool:
        distances = np.abs(self._own - _sparse(frame.nv12)).reshape(len(self._own), -1).mean(axis=1)
        return bool(distances.min() < self._most)


def audible(frame: AvatarFrame) -> bool:
    return bool(np.abs(frame.sound).max() > AUDIBLE)


def fades(frame: AvatarFrame) -> bool:
    """Whether its sound is silent at its end, at the latest."""
    return bool(np.abs(frame.sound[-SOUND_RATE // 100 :]).max() <= AUDIBLE)


def demo_speech() -> np.ndarray:
    """Five seconds, from the first sound on."""
    samples = np.concatenate([chunk.speech for chunk in AudioFile(SPEECH)])
    return samples[np.flatnonzero(np.abs(samples) > 2 * AUDIBLE)[0] :][: 5 * SAMPLE_RATE]


def _sparse(nv12: np.ndarray) -> np.ndarray:
    return nv12[: len(nv12) * 2 // 3 : STEP, ::STEP].astype(np.int16)


@contextmanager
def opened(bundle: Path, avatar: Path, by_service: bool) -> Iterator[LiveAvatar]:
    if not by_service:
        yield AvatarStream(bundle, avatar, FPS)
        return
    with serving("--bundle", str(bundle), "--avatar", f"one={avatar}") as service:
        yield RemoteAvatarStream(f"http://127.0.0.1:{service.port}", "one", fps=FPS)


async def bench(stream: LiveAvatar, avatar: Path, turns: int, by_service: bool) -> dict[str, object]:
    await stream.open()
    busy, began = busy_seconds(), time.monotonic()
    with Avatar.open(avatar) as pack:
        run = Bench(stream, pack, by_service)
        try:
            await run.run(turns)
        finally:
            await stream.close()
    load = (busy_seconds() - busy) / (time.monotonic() - began) / (os.cpu_count() or 1)
    figures = {
        name: {"p50": round(float(np.percentile(found, 50)), 3), "p95": round(float(np.percentile(found, 95)), 3)}
        for name, found in run.seconds.items()
    }
    return {
        "frames_by": "a service" if by_service else "this process",
        "turns": turns,
        "fps": FPS,
        "sound_rate": SOUND_RATE,
        **figures,
        "load": round(load, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=BUNDLE)
    parser.add_argument("avatar", type=Path, nargs="?", default=AVATAR)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--service", action="store_true", help="by a service in a process of its own")
    args = parser.parse_args()
    with opened(args.bundle, args.avatar, args.service) as stream:
        found = asyncio.run(bench(stream, args.avatar, args.turns, args.service))
    json.dump(found, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
