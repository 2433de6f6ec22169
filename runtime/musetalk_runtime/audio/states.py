"""The Whisper encoder's hidden states over time, for a whole file or for live speech.

Both classes answer the same question, the ten states that condition one frame, and differ in the context the encoder
sees. Where the context is the same, so are the states.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.audio.mel import log_mel
from musetalk_runtime.audio.rolling_mel import RollingMel
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.model import HOP, STEP, ModelSpec

States = npt.NDArray[np.floating[Any]]
Encode = Callable[[Floats, slice], States]  # the states in the slice, of a spectrogram
Measure = Callable[[str], AbstractContextManager[object]]  # times the block as the work of a stage

STATES_PER_SECOND = 50  # states a second
MEL_FRAMES_PER_STATE = STEP // HOP  # of mel, a state
MEL_STAGE = "mel"


class SegmentStates:
    """Speech that is there already: encoded in whole segments of ``spec.audio_seconds`` (30 s), as MuseTalk does.

    The last segment is padded with silence. A frame at a segment's border takes states from both.
    """

    def __init__(self, encode: Encode, spec: ModelSpec, measure: Measure) -> None:
        self._encode = encode
        self._spec = spec
        self._measure = measure
        self._segment = spec.audio_seconds * STATES_PER_SECOND * STEP
        self._samples = SampleFifo()
        self._states: States = np.empty((0, spec.audio_states, spec.audio_width), np.float32)
        self._first = 0  # index of self._states[0]
        self._total: int | None = None

    def feed(self, samples: Floats) -> None:
        """Hear the next mono 16 kHz samples ``[n]``."""
        self._samples.push(samples)
        while len(self._samples) >= self._segment:
            self._append(self._encode_segment(self._segment))

    def finish(self) -> None:
        """Hear that the speech is over: states past its end are zeros from now on."""
        if len(self._samples):
            length = len(self._samples)
            self._append(self._encode_segment(length))
        self._total = self._first + len(self._states)

    def heard(self, start: int) -> bool:
        """Whether `window` can give the states from index `start` on."""
        return self._total is not None or start + self._spec.window_steps <= self._first + len(self._states)

    def window(self, start: int, wanted: bool = True) -> States:  # noqa: ARG002 - they are there
        """States ``[window_steps, audio_states, audio_width]`` from index `start` on, which were heard.

        `start` must not decrease from call to call. States before the speech and after its end are zeros. Those that
        are not `wanted` may be zeros too.
        """
        drop = max(0, min(start - self._first, len(self._states)))
        self._states, self._first = self._states[drop:], self._first + drop
        return _cut(self._states, self._first, start, self._spec.window_steps)

    def _append(self, states: States) -> None:
        self._states = np.concatenate([self._states, states]) if len(self._states) else states

    def _encode_segment(self, length: int) -> States:
        with self._measure(MEL_STAGE):
            mel = log_mel(self._samples.take(length), self._spec.mel_bins, self._segment)
        return self._encode(mel, slice(length // STEP))


class RollingStates:
    """Speech as it is spoken: encoded again whenever a frame's window is there, over the last `context` seconds.

    The context is padded with silence to its full length, so the encoder always runs at one size. With `context` equal
    to ``spec.audio_seconds``, speech of whole states that fits in it gives the states of SegmentStates once it has all
    been heard.
    """

    def __init__(self, encode: Encode, spec: ModelSpec, context: float, measure: Measure) -> None:
        self._encode = encode
        self._spec = spec
        self._measure = measure
        self._context = round(context * STATES_PER_SECOND)  # states
        self._mel = RollingMel(spec.mel_bins, self._context * MEL_FRAMES_PER_STATE)
        self._states: States = np.empty((0, spec.audio_states, spec.audio_width), np.float32)
        self._first = 0  # index of self._states[0]
        self._finished = False

    def feed(self, samples: Floats) -> None:
        """Hear the next mono 16 kHz samples ``[n]``."""
        self._mel.feed(samples)

    def finish(self) -> None:
        """Hear that the speech is over: states past its end are zeros from now on."""
        self._finished = True

    def heard(self, start: int) -> bool:
        """As SegmentStates.heard."""
        return self._finished or start + self._spec.window_steps <= self._mel.heard // STEP

    def window(self, start: int, wanted: bool = True) -> States:
        """As SegmentStates.window. What is not `wanted` is not encoded."""
        steps = self._spec.window_steps
        heard = self._mel.heard // STEP
        needed = min(start + steps, heard)
        if not wanted:
            self._mel.forget(max(0, needed - self._context) * MEL_FRAMES_PER_STATE)
            return np.zeros((steps, self._spec.audio_states, self._spec.audio_width), np.float32)
        if needed > self._first + len(self._states):
            self._encode_context(max(start, 0), min(heard, max(start, 0) + self._context))
        return _cut(self._states, self._first, start, steps)

    def _encode_context(self, start: int, end: int) -> None:
        """Encode the context that ends at state `end`; those from `start` on are kept."""
        first = max(0, end - self._context)
        with self._measure(MEL_STAGE):
            mel = self._mel.window(first * MEL_FRAMES_PER_STATE, end * MEL_FRAMES_PER_STATE)
        self._states, self._first = self._encode(mel, slice(start - first, end - first)), start


def _cut(states: States, first: int, start: int, steps: int) -> States:
    """`steps` states from index `start` on, of those that begin at index `first`; zeros where there are none."""
    if first <= start and start + steps <= first + len(states):
        return states[start - first : start + steps - first]
    window = np.zeros((steps, *states.shape[1:]), states.dtype)
    low, high = max(start, first), min(start + steps, first + len(states))
    if low < high:
        window[low - start : high - start] = states[low - first : high - first]
    return window
