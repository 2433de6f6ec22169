"""The speech renderer: it makes an avatar's pictures while speech is read, ahead of whoever takes them."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain, repeat
from typing import Any

from musetalk_runtime.audio.source import AudioSource
from musetalk_runtime.audio.speech import SpeechFrame, SpeechFrames
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.crossfade import CrossfadeRenderer
from musetalk_runtime.backends.interface import FrameRequest, Renderer, Rendering
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.stage import Stage
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.session_hooks import SessionHooks

MAX_SPEECH_FRAMES_AHEAD = 16  # frames that wait for the renderer
MAX_BATCHES_AHEAD = 2  # batches that wait for the encoder


class SpeechRenderer(Closable):
    """Renders what is heard in `audio`, in batches: one thread makes the audio tokens, another the pictures.

    Where others make the pictures (``hooks.renderer_shared``), the one thread hands them over. `close` ends them, and
    closes `audio`. Iterating raises InvalidMedia for live audio that ends before its first sample, and InvalidArgument
    where `bundle` or `avatar` was closed. Attribute: ``frames``, rendered so far.
    """

    def __init__(
        self,
        bundle: Bundle,
        avatar: Avatar,
        audio: AudioSource,
        fps: Fraction,
        poses: PosePlayer,
        hooks: SessionHooks,
    ) -> None:
        self._bundle, self._avatar, self._audio, self._poses = bundle, avatar, audio, poses
        self._rate = float(fps)
        self._mouth, timings = hooks.mouth, hooks.timings
        self._own_renderer, self._copies_ahead = hooks.renderer is None, False
        self.frames = 0
        try:
            with timings.measure("open_renderer", 0):
                self._renderer = (hooks.renderer or partial(_renderer, bundle))(avatar, timings)
        except BaseException:
            audio.close()
            raise
        encode = timings.timed("audio_encoder", bundle.engines.encode_audio)
        groups = SpeechFrames(audio, encode, bundle.spec, fps, bundle.live_context, timings.measure).groups()
        first, largest = bundle.batch_sizes, bundle.batch_sizes[-1]
        before: list[Stage[SpeechFrame]] = []
        if hooks.renderer_shared:  # which makes up its own batches: what is ready at once goes together
            batches = _parts(groups, chain(first, repeat(2 * largest)))
        else:
            before.append(Stage(groups, max(MAX_SPEECH_FRAMES_AHEAD, largest), "speech"))
            batches = _taken(before[0], chain(first, repeat(largest)))
        self._renderings = Stage(self._render(batches), MAX_BATCHES_AHEAD, "render")
        self._stages: list[Stage[Any]] = [self._renderings, *before]

    def __iter__(self) -> Iterator[tuple[list[FrameRequest], Rendering]]:
        return iter(self._renderings)

    def for_host(self) -> Iterator[tuple[list[FrameRequest], Rendering]]:
        """As iterating, for whoever waits for the frames: those that are a GPU's are copied to the host ahead."""
        self._copies_ahead = self._own_renderer  # a shared one is not to wait for one session's frames
        return iter(self)

    def limit(self, frame: SpeechFrame) -> float:
        """How far the mouth may open in `frame` now, 0 to 1."""
        return 1.0 if self._mouth is None else self._mouth(frame.index / self._rate)

    def stop(self) -> None:
        """Give nothing more. Safe from any thread."""
        self._renderings.stop()

    def close(self) -> None:
        """End the threads and close the audio. Closing twice is fine."""
        for stage in self._stages:
            stage.stop()
        self._audio.interrupt()
        for stage in self._stages:
            stage.close()
        self._renderer.close()
        self._audio.close()

    def _render(
        self, batches: Generator[list[SpeechFrame], None, None]
    ) -> Generator[list[tuple[list[FrameRequest], Rendering]], None, None]:
        before: Rendering | None = None
        with closing(batches):
            for frames in batches:
                batch = [self._request(frame) for frame in frames]
                if self._bundle.closed or self._avatar.closed:
                    raise InvalidArgument(
                        "the bundle or the avatar was closed while the session runs: close it afterwards"
                    )
                rendering = self._renderer.render(batch)
                self.frames += len(batch)
                yield [(batch, rendering)]
                if before and self._copies_ahead:
                    before.finish()
                before = rendering

    def _request(self, frame: SpeechFrame) -> FrameRequest:
        shown, limit = self._poses.shown(frame.index), self.limit(frame)
        speech = frame if frame.weight <= limit else replace(frame, weight=limit)
        return FrameRequest(self._avatar, shown.frame, speech, shown.into, shown.share)


def _taken(speech: Stage[SpeechFrame], sizes: Iterator[int]) -> Generator[list[SpeechFrame], None, None]:
    """What is ready of `speech` each time, as many frames as `sizes` says at most."""
    while frames := speech.take(next(sizes)):
        yield frames


def _parts(
    groups: Generator[list[SpeechFrame], None, None], sizes: Iterator[int]
) -> Generator[list[SpeechFrame], None, None]:
    """`groups`, each in parts of as many frames as `sizes` says at most."""
    with closing(groups):
        for group in groups:
            frames = list(group)
            while frames:
                size = next(sizes)
                yield frames[:size]
                del frames[:size]


def _renderer(bundle: Bundle, avatar: Avatar, timings: Timings) -> Renderer:
    return CrossfadeRenderer(bundle.engines.renderer(avatar, timings), bundle.engines.new_frame)
