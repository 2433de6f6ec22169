"""LiveKit Agents: the avatar as a video generator of the agent's own process."""

from collections.abc import AsyncGenerator, AsyncIterator

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.integrations.live_avatar import LiveAvatar

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[livekit]'", name=error.name) from None


class MuseTalkVideoGenerator(VideoGenerator):
    """A ``VideoGenerator`` on `avatar`, which is open already, for an ``AvatarRunner`` with `options`.

    It gives a video frame when it is due, also between segments; during a segment the sound of the frame's duration
    after it, 48 kHz mono; and ``AudioSegmentEnd`` after the last.
    """

    def __init__(self, avatar: LiveAvatar) -> None:
        self._avatar = avatar
        self._interruptions = 0
        self._frames: AsyncGenerator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd, None] | None = None

    @property
    def options(self) -> AvatarOptions:
        """For ``AvatarRunner``."""
        avatar = self._avatar
        return AvatarOptions(avatar.width, avatar.height, float(avatar.fps), SOUND_RATE, 1)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Say `frame`, at any rate, after what waits; the end of a segment is the end of what was said."""
        if isinstance(frame, AudioSegmentEnd):
            self._avatar.flush()
        else:
            self._avatar.push(mono_samples(frame), frame.sample_rate)

    def clear_buffer(self) -> None:
        """Close the mouth, be silent, and drop what waits."""
        self._interruptions += 1
        self._avatar.interrupt()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        self._frames = self._generate()
        return self._frames

    async def aclose(self) -> None:
        """Close the avatar."""
        await self._avatar.close()
        if self._frames:
            await self._frames.aclose()

    async def _generate(self) -> AsyncGenerator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd, None]:
        width, height = self._avatar.width, self._avatar.height
        async for frame in self._avatar.frames():
            interruptions = self._interruptions
            yield rtc.VideoFrame(width, height, rtc.VideoBufferType.NV12, frame.nv12.tobytes())
            if frame.speaking and interruptions == self._interruptions:
                yield audio_frame(frame.sound)
            for _ in range(frame.ended):
                if interruptions == self._interruptions:
                    yield AudioSegmentEnd()


def mono_samples(frame: rtc.AudioFrame) -> Floats:
    """The samples of `frame`, ``[n]`` in [-1, 1]."""
    samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    return np.asarray(samples.mean(axis=1) / 32768, np.float32)


def audio_frame(sound: Floats) -> rtc.AudioFrame:
    """`sound`, float32 ``[n]`` at 48 kHz, as a frame."""
    samples = np.rint(sound.clip(-1, 1) * 32767).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), SOUND_RATE, 1, len(samples))
