"""Speech frames: for each video frame the tokens that move the mouth and the sound that goes with it."""

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np

from musetalk_runtime.audio.activity import Activity
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.audio.source import AudioSource
from musetalk_runtime.audio.states import STATES_PER_SECOND, Encode, Measure, RollingStates, SegmentStates, States
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE, ModelSpec

MOST_TOGETHER = 16  # frames of a group


@dataclass(frozen=True)
class SpeechFrame:
    """What frame `index`, shown at ``index / fps``, is made from.

    ``tokens`` ``[tokens, audio_width]``, the window's states in time order and within a state by layer, of the type
    that the audio encoder gives (float32, or float16 of an engine), zeros in live silence; ``weight`` in [0, 1], how
    much of the generated mouth shows; ``sound`` float32 ``[channels, n]`` at 48 kHz, the audio to send with this frame,
    which ends where the window does.
    """

    index: int
    tokens: States
    weight: float
    sound: Floats


class SpeechFrames:
    """The frames of `audio` at `fps`, each as soon as its window has been heard.

    A file is heard in the model's whole segments, live audio over the last `live_context` seconds; `encode` is the
    audio encoder; `measure` times the stage ``mel``. The last frame is the one in which the audio ends. Iterating
    raises InvalidMedia for live audio that ends before its first sample.
    """

    def __init__(
        self,
        audio: AudioSource,
        encode: Encode,
        spec: ModelSpec,
        fps: Fraction,
        live_context: float,
        measure: Measure = nullcontext,
    ) -> None:
        self._audio = audio
        self._spec = spec
        self._fps = fps
        self._states: SegmentStates | RollingStates = (
            RollingStates(encode, spec, live_context, measure) if audio.live else SegmentStates(encode, spec, measure)
        )
        self._activity = Activity(fps)
        self._sound = SampleFifo()
        self._sent = 0  # samples of sound
        self._received = 0  # samples of speech
        self._index = 0

    def __iter__(self) -> Generator[SpeechFrame, None, None]:
        for group in self.groups():
            yield from group

    def groups(self) -> Generator[list[SpeechFrame], None, None]:
        """The frames in order, those together that are ready at once: MOST_TOGETHER at most."""
        with closing(iter(self._audio)) as chunks:
            for chunk in chunks:
                self._received += len(chunk.speech)
                self._states.feed(chunk.speech)
                self._activity.feed(chunk.speech)
                self._sound.push(chunk.sound)
                yield from _groups(self._ready(None))
        if not self._received:
            raise InvalidMedia("the audio ended before its first sample")
        self._states.finish()
        yield from _groups(self._ready(frame_count(self._received, self._fps)))

    def _ready(self, count: int | None) -> Iterator[SpeechFrame]:
        """The frames whose windows have been heard; all up to the last, once their `count` is known."""
        steps = self._spec.window_steps
        while self._index != count:
            start = window_start(self._index, self._fps, self._spec.window_before)
            if not self._states.heard(start):
                return
            weight = self._activity.weight(start, steps)
            window = self._states.window(start, wanted=weight > 0)
            tokens = window.reshape(self._spec.tokens, self._spec.audio_width)
            sound = self._take_sound(
                None if self._index + 1 == count else (start + steps) * SOUND_RATE // STATES_PER_SECOND
            )
            yield SpeechFrame(self._index, tokens, weight, sound)
            self._index += 1

    def _take_sound(self, end: int | None) -> Floats:
        """The sound up to sample `end`, or all that is left."""
        count = len(self._sound) if end is None else min(len(self._sound), end - self._sent)
        if count <= 0:
            return np.empty((self._audio.channels, 0), np.float32)
        self._sent += count
        return self._sound.take(count)


def _groups(frames: Iterator[SpeechFrame]) -> Iterator[list[SpeechFrame]]:
    while group := list(islice(frames, MOST_TOGETHER)):
        yield group


def window_start(index: int, fps: Fraction, before: int) -> int:
    """Index of the first audio state that conditions frame `index`: `before` states before the frame's time."""
    return STATES_PER_SECOND * index * fps.denominator // fps.numerator - before


def frame_count(samples: int, fps: Fraction) -> int:
    """Frames that `samples` of 16 kHz audio last, the last one perhaps in part."""
    return -int(-samples * fps // SAMPLE_RATE)
