"""Pipecat: the avatar as a service in a pipeline, between text to speech and the output transport."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.integrations.live_avatar import AvatarFrame, LiveAvatar

try:
    from pipecat.frames.frames import (
        CancelFrame,
        ControlFrame,
        EndFrame,
        Frame,
        InterruptionFrame,
        OutputImageRawFrame,
        StartFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
    )  # fmt: skip
    from pipecat.processors.frame_processor import FrameDirection
    from pipecat.services.ai_service import AIService
    from pipecat.services.settings import ServiceSettings
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[pipecat]'", name=error.name) from None

MAX_DRAIN_S = 600.0  # seconds in which what was pushed before the end is said


@dataclass
class AvatarPoseFrame(ControlFrame):
    """The avatar goes over to its clip `pose`: once, or on and on if it is to `repeat`. See ``Session.pose``."""

    pose: str  # a Pipecat frame has a name of its own
    repeat: bool = False


class MuseTalkVideoService(AIService):
    """Says what comes as ``TTSAudioRawFrame`` by `avatar`; it opens and closes that.

    It pushes ``OutputImageRawFrame`` at the avatar's rate, also between utterances, and after each the sound of its
    duration as ``TTSAudioRawFrame``, 48 kHz mono, while there is an utterance. Images go through the transport's queue
    of sound (``sync_with_audio``), so that they are shown with the sound that belongs to them: leave the transport's
    ``video_out_is_live`` off. ``TTSStoppedFrame`` ends an utterance, and is passed on once that has been pushed.
    ``InterruptionFrame`` drops all and is passed on. ``AvatarPoseFrame`` changes the pose as soon as it comes.
    ``EndFrame`` waits until everything is said.
    """

    def __init__(self, avatar: LiveAvatar, **options: Any) -> None:
        super().__init__(settings=ServiceSettings(model="musetalk"), **options)
        self._avatar = avatar
        self._showing: asyncio.Task[None] | None = None
        self._stopped: deque[Frame] = deque()  # that wait for the end of their utterances
        self._ending = False  # once everything is said

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take `frame`, or pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            await self._say(frame)
            return
        if isinstance(frame, AvatarPoseFrame):
            await self._pose(frame)
            return
        if isinstance(frame, TTSStoppedFrame):
            self._avatar.flush()
            if self._avatar.speaking:
                self._stopped.append(frame)
                return
        elif isinstance(frame, InterruptionFrame):
            self._avatar.interrupt()
            self._stopped.clear()
        elif isinstance(frame, EndFrame):
            await self._drain()
            await self._end()
        elif isinstance(frame, CancelFrame):
            await self._end()
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self._begin()

    async def cleanup(self) -> None:
        """Close the avatar, whatever has happened."""
        await super().cleanup()
        await self._end()

    async def _begin(self) -> None:
        try:
            await self._avatar.open()
        except (MuseTalkEdgeError, OSError) as error:
            await self.push_error(error_msg=one_line(error), exception=error, force_treat_as_permanent=True)
        else:
            self._showing = self.create_task(self._show())

    async def _say(self, frame: TTSAudioRawFrame) -> None:
        samples = np.frombuffer(frame.audio, "<i2").reshape(-1, frame.num_channels).mean(axis=1) / 32768
        try:
            self._avatar.push(np.asarray(samples, np.float32), frame.sample_rate)
        except MuseTalkEdgeError as error:
            await self.push_error(error_msg=one_line(error), exception=error)

    async def _pose(self, frame: AvatarPoseFrame) -> None:
        try:
            self._avatar.pose(frame.pose, frame.repeat)
        except MuseTalkEdgeError as error:
            await self.push_error(error_msg=one_line(error), exception=error)

    async def _show(self) -> None:
        try:
            async for frame in self._avatar.frames():
                await self._push(frame)
                if self._ending and not self._avatar.speaking:
                    return
        except (MuseTalkEdgeError, OSError) as error:
            await self.push_error(error_msg=one_line(error), exception=error, force_treat_as_permanent=True)

    async def _push(self, frame: AvatarFrame) -> None:
        size = (self._avatar.width, self._avatar.height)
        image = OutputImageRawFrame(image=frame.rgb().tobytes(), size=size, format="RGB")
        image.sync_with_audio = True
        await self.push_frame(image)
        if frame.speaking:
            sound = np.rint(frame.sound.clip(-1, 1) * 32767).astype("<i2")
            await self.push_frame(TTSAudioRawFrame(audio=sound.tobytes(), sample_rate=SOUND_RATE, num_channels=1))
        for _ in range(frame.ended):
            if self._stopped:
                await self.push_frame(self._stopped.popleft())

    async def _drain(self) -> None:
        """Wait until everything is said and pushed."""
        if self._showing:
            self._avatar.flush()
            self._ending = True
            await asyncio.wait([self._showing], timeout=MAX_DRAIN_S)

    async def _end(self) -> None:
        showing, self._showing = self._showing, None
        if showing:
            await self.cancel_task(showing)
        await self._avatar.close()
