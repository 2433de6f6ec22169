"""An avatar in a conversation: it says what is pushed and idles otherwise, at the pace of real time."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from musetalk_runtime.audio.chunk import SOUND_RATE, Resampler
from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.audio.mute import FADE_SAMPLES
from musetalk_runtime.audio.speech_piece import Aligner, SpeechPiece
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.crossfade import CrossfadeRenderer
from musetalk_runtime.backends.interface import Renderer
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.integrations.live_avatar import AvatarFrame
from musetalk_runtime.integrations.utterances import Utterances
from musetalk_runtime.service.scheduling.repeating_renderer import RepeatingRenderer
from musetalk_runtime.service.session.pace import MIN_FPS, SHARES
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.speech_queue import SpeechQueue
from musetalk_runtime.session import Session
from musetalk_runtime.session_hooks import SessionHooks

Waiting = asyncio.Queue[tuple[Frame, Floats] | Exception | None]  # frames with their sound; what ended them, or None

IDLE_S = 0.3  # seconds of silence that are handed out ahead: what a reply waits for, and what a frame is made from
LEAD_S = 0.6  # seconds of speech that are generated ahead
MAX_LATE_S = 0.2  # seconds that a frame may be late; then the stream goes on later, instead of faster
STEADY_S, SETTLE_S = 60.0, 1.0  # seconds in time until all pictures are made again; seconds until even fewer are
MAX_WAITING_FRAMES = 2  # that nobody has taken


class AvatarStream:
    """A ``LiveAvatar`` in this process: `avatar` on `bundle`, each a folder or opened, at `fps`.

    `open` raises what ``Bundle.open``, ``Avatar.open`` and ``Session`` do. Where the machine is too slow it makes fewer
    pictures, and repeats the others. Several streams share a bundle without order: for more than one conversation at
    once ``musetalk-edge serve`` is the better choice.
    """

    def __init__(self, bundle: Bundle | str | Path, avatar: Avatar | str | Path, fps: str | float = "auto") -> None:
        self._given = bundle, avatar, fps
        self._stack = ExitStack()
        self._clock = SteadyClock()
        self._speech = SpeechQueue(self._clock, LEAD_S, IDLE_S)
        self._utterances = Utterances()
        self._resample, self._align = Resampler(channels=1), Aligner()
        self._sound = SampleFifo()
        self._silenced = threading.Event()
        self._silent_before = 0  # the frame up to which nothing is heard, since an interruption
        self._room = threading.Semaphore(MAX_WAITING_FRAMES)
        self._share, self._steady_from = SHARES[0], 0.0
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Load the engines and the avatar."""
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """End. Twice is fine."""
        self._stopping.set()
        await asyncio.to_thread(self._close)

    def push(self, samples: Floats, rate: int) -> None:
        """Say `samples`, mono ``[n]`` in [-1, 1] at `rate` Hz, after what waits. Raises InvalidArgument if 600 s do."""
        piece = self._align(self._resample(np.asarray(samples, np.float32)[None], rate)) if len(samples) else None
        if piece is None or not len(piece.speech):
            return
        if not self._say(piece):
            raise InvalidArgument(f"{self._speech.queued:.0f} s of speech wait already")

    def flush(self) -> None:
        """The utterance that was pushed is whole."""
        if len((piece := self._align(self._resample.end())).speech):
            self._say(piece)
        self._resample, self._align = Resampler(channels=1), Aligner()
        self._speech.finish()
        self._utterances.finish()

    def interrupt(self) -> float:
        """Close the mouth, be silent, and drop what waits. Gives the seconds that were played of the utterance."""
        self._resample, self._align = Resampler(channels=1), Aligner()
        if (session := self._session) is None:
            return 0.0
        _, end = self._speech.cut(float(session.frames_made / session.fps))
        session.hush(end)
        self._silent_before = session.frames_made
        self._silenced.set()
        return self._utterances.drop()

    def pose(self, name: str, repeat: bool = False) -> None:
        """Go over to another clip of the avatar. See ``LiveAvatar``."""
        if session := self._session:
            session.pose(name, repeat)

    @property
    def speaking(self) -> bool:
        """Whether an utterance waits or is under way."""
        return self._utterances.waiting

    async def frames(self) -> AsyncGenerator[AvatarFrame, None]:
        """The frames, each when it is due; raises what ``Session.frames`` does."""
        waiting: Waiting = asyncio.Queue()
        run = (asyncio.get_running_loop(), waiting)
        self._thread = threading.Thread(target=self._run, args=run, name="avatar", daemon=True)
        self._thread.start()
        while (taken := await waiting.get()) is not None:
            self._room.release()
            if isinstance(taken, Exception):
                raise taken
            yield self._framed(*taken)

    def _say(self, piece: SpeechPiece) -> bool:
        if place := self._speech.push(piece):
            self._utterances.add(place.begin, place.begin + piece.seconds)
        return place is not None

    def _open(self) -> None:
        bundle, avatar, fps = self._given
        with ExitStack() as stack:
            if not isinstance(bundle, Bundle):
                bundle = stack.enter_context(Bundle.open(bundle))
            if not isinstance(avatar, Avatar):
                avatar = stack.enter_context(Avatar.open(avatar))
            hooks = SessionHooks(mouth=self._speech.mouth, renderer=partial(_renderer, bundle, lambda: self._share))
            session = Session(bundle, avatar, self._speech, fps, hooks)
            self._session = stack.enter_context(session)
            self.width, self.height, self.fps = avatar.width, avatar.height, session.fps
            self._stack = stack.pop_all()

    def _close(self) -> None:
        if self._session:
            self._session.stop()
        self._speech.interrupt()
        if self._thread:
            self._thread.join()
        self._stack.close()

    def _framed(self, frame: Frame, sound: Floats) -> AvatarFrame:
        speaking, ended = self._utterances.play(float(frame.pts), float((frame.index + 1) / self.fps))
        if frame.index < self._silent_before:
            sound, speaking = 0 * sound, False
        return AvatarFrame(frame.index, frame.nv12, sound, speaking, ended)

    def _run(self, loop: asyncio.AbstractEventLoop, waiting: Waiting) -> None:
        last: Exception | None = None
        try:
            for frame in self._session.frames() if self._session else ():
                self._sound.push(frame.sound.mean(axis=0, keepdims=True))
                self._wait(float(frame.pts))
                if not self._has_room():
                    break
                loop.call_soon_threadsafe(waiting.put_nowait, (frame, self._sound_of(frame)))
        except Exception as error:
            last = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(waiting.put_nowait, last)

    def _wait(self, due: float) -> None:
        """Wait until the stream's second `due`, or put the clock back where that is long over."""
        self._clock.start()
        if (early := due - self._clock.now()) > 0:
            self._stopping.wait(early)
        elif early < -MAX_LATE_S:
            self._clock.wait(due)
            self._slow_down(due)
        elif due > self._steady_from + STEADY_S:
            self._share, self._steady_from = SHARES[0], due

    def _slow_down(self, now: float) -> None:
        """Make fewer of the frames from the stream's second `now` on."""
        lower = [share for share in SHARES if share < self._share and share * self.fps >= MIN_FPS]
        if lower and now > self._steady_from:
            self._share, self._steady_from = lower[0], now + SETTLE_S

    def _sound_of(self, frame: Frame) -> Floats:
        begin, end = (int((frame.index + k) * SOUND_RATE / self.fps) for k in (0, 1))
        if self._silenced.is_set():
            self._silenced.clear()
            _fade(self._sound)
        sound = self._sound.take(min(end - begin, len(self._sound)))[0]
        return np.pad(sound, (0, end - begin - len(sound)))

    def _has_room(self) -> bool:
        """Wait until who iterates has taken enough, while the clock stands still; False at the end."""
        if self._room.acquire(blocking=False):
            return True
        now, taken = self._clock.now(), False
        while not (taken or self._stopping.is_set()):
            taken = self._room.acquire(timeout=0.1)
            self._clock.wait(now)
        return taken


class SteadyClock(PlaybackClock):
    """Playback by somebody who cannot skip: an interruption does not move it."""

    def jump(self, seconds: float) -> None:
        """Stay."""


def _renderer(bundle: Bundle, share: Callable[[], Fraction], avatar: Avatar, timings: Timings) -> Renderer:
    plain = bundle.engines.renderer(avatar, timings)
    return RepeatingRenderer(CrossfadeRenderer(plain, bundle.engines.new_frame), share)


def _fade(sound: SampleFifo) -> None:
    """Fade out what waits in `sound`."""
    if count := len(sound):
        samples = sound.take(count)
        sound.push(samples * np.clip(1 - np.arange(count, dtype=np.float32) / FADE_SAMPLES, 0, 1))
