"""An avatar in a conversation that a running ``musetalk-edge serve`` makes."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from fractions import Fraction
from typing import Any

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE, Resampler
from musetalk_runtime.audio.mute import FADE_SAMPLES
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.integrations.live_avatar import AvatarFrame
from musetalk_runtime.integrations.playout import PlayedFrame, Playout
from musetalk_runtime.integrations.remote_session import RemoteSession
from musetalk_runtime.integrations.stream_decoder import StreamDecoder
from musetalk_runtime.integrations.utterances import Utterances
from musetalk_runtime.service.session.speech_queue import LOOKAHEAD_S, MAX_QUEUED_S, MOUTH_FADE_S

PIECE = SOUND_RATE // 4  # samples that are sent at once, at most
UNANSWERED = SOUND_RATE  # samples that are sent before the service has answered: a slow network leaves no gap
AHEAD_S = 5.0  # seconds of speech that the service has and that were not played, at most
TAIL = SOUND_RATE // 200  # samples of silence after an utterance: its last ones do not wait in the service's resampler
ROOM_INTERVAL_S = 0.05  # seconds between looks whether there is room again


class RemoteAvatarStream:
    """A ``LiveAvatar`` that the service at `url` makes of its avatar with that name; `token`, where it wants one.

    It begins a session, sends speech over a WebSocket, and plays the session's stream. `open` and `frames` raise
    OutputError where the service refuses, fails or is not there. `fps` is ``auto``, or a number; `bundle` the name of
    engines, where the avatar goes with several.
    """

    def __init__(
        self, url: str, avatar: str, token: str | None = None, fps: str | float = "auto", bundle: str | None = None
    ) -> None:
        self._session = RemoteSession(url, avatar, token, fps, bundle)
        self._utterances = Utterances()
        self._resample = Resampler(channels=1)
        self._pushed = False  # something of an utterance that is not whole
        self._outbox: deque[Floats | None] = deque()  # what is to be sent; None ends an utterance
        self._sent: asyncio.Queue[int | None] = asyncio.Queue()  # samples of what was; None ends an utterance
        self._unanswered = 0  # samples that were sent
        self._waiting = 0  # samples to be sent, and those unanswered, since the last interruption
        self._poses: deque[tuple[str, bool]] = deque()  # that are to be asked for
        self._changed = asyncio.Event()
        self._interrupted = False
        self._silent = self._was_silent = False
        self._silent_until = 0.0  # the stream's second before which nothing is heard
        self._error: OutputError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._playout: Playout | None = None

    async def open(self) -> None:
        """Begin the session."""
        await self._session.open()
        self.width, self.height, self.fps = self._session.width, self._session.height, self._session.fps

    async def close(self) -> None:
        """End it. Twice is fine."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._playout:
            self._playout.end(None)
        await self._session.close()

    def push(self, samples: Floats, rate: int) -> None:
        """Say `samples`, mono ``[n]`` in [-1, 1] at `rate` Hz, after what waits. Raises InvalidArgument if 600 s do."""
        if self._waiting / SOUND_RATE > MAX_QUEUED_S:
            raise InvalidArgument(f"{self._waiting / SOUND_RATE:.0f} s of speech wait already")
        self._pushed = self._pushed or len(samples) > 0
        if len(samples) and (chunk := self._resample(np.asarray(samples, np.float32)[None], rate)):
            self._put(chunk.sound[0])

    def flush(self) -> None:
        """The utterance that was pushed is whole."""
        if chunk := self._resample.end():
            self._put(chunk.sound[0])
        self._resample = Resampler(channels=1)
        if self._pushed:
            self._pushed = False
            self._put(np.zeros(TAIL, np.float32))
            self._outbox.append(None)
            self._changed.set()

    def interrupt(self) -> float:
        """Close the mouth, be silent, and drop what waits. Gives the seconds that were played of the utterance."""
        self._resample, self._pushed = Resampler(channels=1), False
        self._outbox.clear()
        self._waiting = 0
        self._interrupted = self._silent = True
        self._changed.set()
        return self._utterances.drop()

    def pose(self, name: str, repeat: bool = False) -> None:
        """Go over to another clip of the avatar. See ``LiveAvatar.pose``."""
        if name not in self._session.poses:
            raise InvalidArgument(f"no pose {name[:40]!r}: expected one of {', '.join(self._session.poses)}")
        self._poses.append((name, repeat))
        self._changed.set()

    @property
    def speaking(self) -> bool:
        """Whether an utterance waits or is under way."""
        return bool(self._waiting) or bool(self._outbox) or self._utterances.waiting

    async def frames(self) -> AsyncGenerator[AvatarFrame, None]:
        """The frames, each when it is due. Raises OutputError where the stream is lost."""
        loop = asyncio.get_running_loop()
        self._playout = playout = Playout(self.fps)
        decoder = StreamDecoder(
            lambda *picture: _call(loop, playout.add_picture, *picture),
            lambda *sound: _call(loop, playout.add_sound, *sound),
            lambda error: _call(loop, playout.end, self._told(error)),
        )
        speaking = (asyncio.create_task(self._until_lost(work)) for work in (self._send(), self._hear()))
        self._tasks = [asyncio.create_task(self._receive(decoder)), *speaking]
        try:
            index = 0
            while frame := await playout.next(quiet=not self.speaking):
                yield self._framed(index, frame)
                index += 1
            if self._error:
                raise self._error
        finally:
            await asyncio.to_thread(decoder.close)

    def _put(self, samples: Floats) -> None:
        self._outbox.append(samples)
        self._waiting += len(samples)
        self._changed.set()

    def _told(self, error: Exception | None) -> OutputError | None:
        return self._error or (OutputError(f"the stream cannot be decoded: {error}") if error else None)

    async def _receive(self, decoder: StreamDecoder) -> None:
        try:
            async for data in self._session.stream():
                decoder.feed(data)
            self._error = self._error or OutputError("the service has ended the session")
        except OutputError as error:
            self._error = error
        finally:
            decoder.feed(b"")

    async def _send(self) -> None:
        """Send what is pushed, in order, and interruptions and poses before all else."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._interrupted or self._poses or self._outbox:
                await self._send_next()

    async def _send_next(self) -> None:
        if self._interrupted:
            await self._sent.join()  # the service drops what it has: that must be all that was sent
            self._interrupted = False
            at = await self._session.interrupt()
            if self._playout:
                self._playout.skip(at - MOUTH_FADE_S)
            self._silent_until = at - MOUTH_FADE_S + LOOKAHEAD_S + 2 * FADE_SAMPLES / SOUND_RATE
            self._silent = self._interrupted
            return
        if self._poses:
            await self._session.pose(*self._poses.popleft())
            return
        if self._outbox[0] is None:
            self._outbox.popleft()
            self._sent.put_nowait(None)
            return
        if not await self._has_room():
            return
        piece = self._next_piece()
        self._unanswered += len(piece)
        await self._session.say(np.rint(piece.clip(-1, 1) * 32767).astype("<i2").tobytes())
        self._sent.put_nowait(len(piece))

    async def _hear(self) -> None:
        """Take the answers to what was sent, in order: where in the stream it is said."""
        while True:
            if (samples := await self._sent.get()) is None:
                self._utterances.finish()
            else:
                begin, end = await self._session.said()
                self._unanswered -= samples
                if not self._interrupted:
                    self._waiting -= samples
                    self._utterances.add(begin, end)
            self._sent.task_done()

    async def _until_lost(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; where the service is lost, the frames end."""
        try:
            await work
        except OutputError as error:
            self._error = error
            if self._playout:
                self._playout.end(error)

    def _next_piece(self) -> Floats:
        """What waits of the utterance, up to ``PIECE``: many small pushes cost one answer of the service, not many."""
        parts: list[Floats] = []
        room = PIECE
        while room and self._outbox and (samples := self._outbox[0]) is not None:
            self._outbox.popleft()
            if len(samples) > room:
                self._outbox.appendleft(samples[room:])
            parts.append(samples[:room])
            room -= len(parts[-1])
        return np.concatenate(parts)

    async def _has_room(self) -> bool:
        """Wait until the service may have more; False after an interruption."""
        while self._unanswered >= UNANSWERED or self._ahead > AHEAD_S:
            await asyncio.sleep(ROOM_INTERVAL_S)
            if self._interrupted:
                return False
        return True

    @property
    def _ahead(self) -> float:
        return self._utterances.end - self._utterances.position + self._unanswered / SOUND_RATE

    def _framed(self, index: int, frame: PlayedFrame) -> AvatarFrame:
        begin, end = float(frame.pts), float(frame.pts + Fraction(1) / self.fps)
        silent = self._silent or begin < self._silent_until
        sound = frame.sound
        if silent:
            fade = np.arange(len(sound), dtype=np.float32) / FADE_SAMPLES
            sound = sound * (0 if self._was_silent else np.clip(1 - fade, 0, 1))
        self._was_silent = silent
        speaking, ended = self._utterances.play(begin, end)
        return AvatarFrame(index, frame.nv12, sound, speaking and not silent, ended)


def _call(loop: asyncio.AbstractEventLoop, function: object, *given: object) -> None:
    """Call `function` in `loop`, unless that has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *given)  # type: ignore[arg-type]
