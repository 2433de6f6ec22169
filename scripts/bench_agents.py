#!/usr/bin/env python3
"""How fast an avatar in a conversation answers, and how fast it is silent, in process and without a network.

    PYTHONPATH=runtime python scripts/bench_agents.py [BUNDLE AVATAR] [--turns 20]

Speech is pushed at moments of their own, and interrupted after a second. Writes JSON, in seconds: from the push to the
frame with the first sample (`answer_s`), from an interruption to the first silent frame (`silent_s`) and to the first
frame with the avatar's own picture (`closed_s`), and from a frame to the next (`interval_s`). Frames are counted as
they are handed to the framework: what it, the network and the browser take comes on top.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np

from musetalk_runtime import Avatar
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.live_avatar import AvatarFrame

AUDIBLE = 0.005  # of full scale, of a frame's sound


class Bench:
    """Turns with one avatar, and the seconds that were measured."""

    def __init__(self, stream: AvatarStream, avatar: Avatar) -> None:
        self._stream, self._avatar = stream, avatar
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
            self.seconds["silent_s"].append(await self._until(frames, lambda frame: not audible(frame)) - cut)
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
        own = self._avatar.frame(self._avatar.index_at(frame.index, self._stream.fps))
        return bool(np.abs(frame.nv12.astype(int) - own).mean() < 0.05)


def audible(frame: AvatarFrame) -> bool:
    return bool(np.abs(frame.sound).max() > AUDIBLE)


def demo_speech() -> np.ndarray:
    """Five seconds, from the first sound on."""
    samples = np.concatenate([chunk.speech for chunk in AudioFile(SPEECH)])
    return samples[np.flatnonzero(np.abs(samples) > 2 * AUDIBLE)[0] :][: 5 * SAMPLE_RATE]


async def bench(bundle: Path, avatar: Path, turns: int) -> dict[str, object]:
    stream = AvatarStream(bundle, avatar, fps=25)
    await stream.open()
    with Avatar.open(avatar) as pack:
        run = Bench(stream, pack)
        try:
            await run.run(turns)
        finally:
            await stream.close()
    figures = {
        name: {"p50": round(float(np.percentile(found, 50)), 3), "p95": round(float(np.percentile(found, 95)), 3)}
        for name, found in run.seconds.items()
    }
    return {"turns": turns, "fps": 25, "sound_rate": SOUND_RATE, **figures}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=BUNDLE)
    parser.add_argument("avatar", type=Path, nargs="?", default=AVATAR)
    parser.add_argument("--turns", type=int, default=20)
    args = parser.parse_args()
    json.dump(asyncio.run(bench(args.bundle, args.avatar, args.turns)), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
