"""An avatar in a conversation: what it is told while its frames are taken."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from helpers.media import voice
from musetalk_runtime.integrations.live_avatar import AvatarFrame, LiveAvatar

RATE = 24_000
A = TypeVar("A", bound=LiveAvatar)


def played(stream: A, act: Callable[[A, AvatarFrame], bool], pause: float = 0.0) -> list[AvatarFrame]:
    """The frames until `act`, which is told of each `pause` seconds after it was taken, wants no more."""

    async def play() -> list[AvatarFrame]:
        frames: list[AvatarFrame] = []
        await stream.open()
        try:
            async for frame in stream.frames():
                frames.append(frame)
                await asyncio.sleep(pause)
                if act(stream, frame):
                    break
        finally:
            await stream.close()
        return frames

    return asyncio.run(asyncio.wait_for(play(), 100))


def say(stream: LiveAvatar, seconds: float) -> None:
    """An utterance of so many seconds."""
    stream.push(voice(seconds, RATE) / 32768, RATE)
    stream.flush()


def saying(seconds: float, at: int) -> Callable[[LiveAvatar, AvatarFrame], bool]:
    """To be told of each frame: it has the avatar speak from the frame `at` on, and wants no more when that is said."""

    def act(stream: LiveAvatar, frame: AvatarFrame) -> bool:
        if frame.index == at:
            say(stream, seconds)
        return frame.index > at + 5 and not stream.speaking

    return act
