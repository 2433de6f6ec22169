"""Audio states over time: what the Whisper encoder makes of the speech heard so far.

Both classes answer the same question, the ten states that condition one frame, and differ in the context the encoder
sees. Where the context is the same, so are the states.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.audio.mel import log_mel
from musetalk_runtime.model import STEP, ModelSpec

Floats = npt.NDArray[np.float32]
Encode = Callable[[Floats], Floats]

RATE = 50  # states a second


class SegmentStates:
    """Speech that is there already: encoded in whole segments of ``spec.audio_seconds`` (30 s), as MuseTalk does.

    The last segment is padded with silence. A frame at a segment's border takes states from both.
    """

    def __init__(self, encode: Encode, spec: ModelSpec) -> None:
        self._encode = encode
        self._spec = spec
        self._segment = spec.audio_seconds * RATE * STEP
        self._samples = SampleFifo()
        self._states = np.empty((0, spec.audio_states, spec.audio_width), np.float32)
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
            self._append(self._encode_segment(length)[: length // STEP])
        self._total = self._first + len(self._states)

    def window(self, start: int) -> Floats | None:
        """States ``[window_steps, audio_states, audio_width]`` from index `start` on, or None if not heard yet.

        `start` must not decrease from call to call. States before the speech and after its end are zeros.
        """
        end = start + self._spec.window_steps
        if self._total is None and end > self._first + len(self._states):
            return None
        drop = max(0, min(start - self._first, len(self._states)))
        self._states, self._first = self._states[drop:], self._first + drop
        return _cut(self._states, self._first, start, self._spec.window_steps)

    def _append(self, states: Floats) -> None:
        self._states = np.concatenate([self._states, states])

    def _encode_segment(self, length: int) -> Floats:
        return _encode_padded(self._encode, self._samples.take(length), self._segment, self._spec.mel_bins)


class RollingStates:
    """Speech as it is spoken: encoded again whenever a frame's window is there, over the last `context` seconds.

    The context is padded with silence to its full length, so the encoder always runs at one size. With `context` equal
    to ``spec.audio_seconds``, speech of whole states that fits in it gives the states of SegmentStates once it has all
    been heard.
    """

    def __init__(self, encode: Encode, spec: ModelSpec, context: float) -> None:
        self._encode = encode
        self._spec = spec
        self._context = round(context * RATE)  # states
        self._samples = np.empty(0, np.float32)
        self._origin = 0  # index of the state at self._samples[0]
        self._states = np.empty((0, spec.audio_states, spec.audio_width), np.float32)
        self._first = 0
        self._finished = False

    def feed(self, samples: Floats) -> None:
        """Hear the next mono 16 kHz samples ``[n]``."""
        self._samples = np.concatenate([self._samples, samples])

    def finish(self) -> None:
        """Hear that the speech is over: states past its end are zeros from now on."""
        self._finished = True

    def window(self, start: int) -> Floats | None:
        """As SegmentStates.window."""
        steps = self._spec.window_steps
        heard = self._origin + len(self._samples) // STEP
        if start + steps > heard and not self._finished:
            return None
        needed = min(start + steps, heard)
        if needed > self._first + len(self._states):
            self._encode_context(max(start, 0))
        return _cut(self._states, self._first, start, steps)

    def _encode_context(self, start: int) -> None:
        """Encode as much as was heard, but no further than one context from `start` on."""
        heard = self._origin + len(self._samples) // STEP
        end = min(heard, start + self._context)
        first = max(self._origin, end - self._context)
        self._samples = self._samples[(first - self._origin) * STEP :]
        self._origin = first
        samples = self._samples[: (end - first) * STEP]
        states = _encode_padded(self._encode, samples, self._context * STEP, self._spec.mel_bins)
        self._states, self._first = states[: end - first], first


def _encode_padded(encode: Encode, samples: Floats, length: int, bins: int) -> Floats:
    return encode(log_mel(np.pad(samples, (0, length - len(samples))), bins))


def _cut(states: Floats, first: int, start: int, steps: int) -> Floats:
    """`steps` states from index `start` on, of those that begin at index `first`; zeros where there are none."""
    window = np.zeros((steps, *states.shape[1:]), np.float32)
    low, high = max(start, first), min(start + steps, first + len(states))
    if low < high:
        window[low - start : high - start] = states[low - first : high - first]
    return window
