"""The audio states of a source video, computed as the runtime computes those of a file."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.states import STATES_PER_SECOND, Encode, SegmentStates
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidMedia, MuseTalkEdgeError
from musetalk_runtime.core.model import SAMPLE_RATE, STEP, ModelSpec

MAX_SHIFT_S = 10.0  # from the first frame to the first sample, or back


def read_audio_states(
    video: Path, start: float, encode: Encode, spec: ModelSpec
) -> tuple[npt.NDArray[np.float16], int]:
    """The audio states of `video` from its first frame on, ``[T, audio_states, audio_width]``, and the samples heard.

    `start` is the file's time of that frame. The sound is encoded in the model's whole segments. Raises InvalidMedia
    for a video without sound, or whose sound is damaged and so could be out of step with the picture.
    """
    steps = spec.audio_seconds * STATES_PER_SECOND
    segments = SegmentStates(encode, replace(spec, window_steps=steps), nullcontext)
    heard = 0
    pieces: list[npt.NDArray[np.float16]] = []
    for speech in _speech(video, start):
        heard += len(speech)
        segments.feed(speech)
        if segments.heard(len(pieces) * steps):
            pieces.append(segments.window(len(pieces) * steps).astype(np.float16))
    segments.finish()
    if heard < STEP:
        raise InvalidMedia(f"{video}: it holds {heard / SAMPLE_RATE:.2f} s of sound")
    while len(pieces) * steps < heard // STEP:
        pieces.append(segments.window(len(pieces) * steps).astype(np.float16))
    states = np.concatenate(pieces)[: heard // STEP]
    if not np.isfinite(states).all():
        raise InvalidMedia(f"{video}: its sound makes no finite audio states: it is damaged")
    return states, heard


def _speech(video: Path, start: float) -> Iterator[Floats]:
    """Mono 16 kHz samples ``[n]`` from the time `start` on: silence comes first where the sound begins later."""
    try:
        with closing(AudioFile(video)) as audio:
            shift = audio.start - start
            if abs(shift) > MAX_SHIFT_S:
                raise InvalidMedia(f"{video}: its sound begins {shift:.1f} s after the picture, expected at most 10")
            skip = -round(shift * SAMPLE_RATE)
            if skip < 0:
                yield np.zeros(-skip, np.float32)
            for chunk in audio:
                if len(speech := chunk.speech[max(0, skip) :]):
                    yield speech
                skip -= len(chunk.speech)
            damaged = [warning for warning in audio.warnings if "damaged" in warning]
    except MuseTalkEdgeError:
        raise
    except (av.error.FFmpegError, ValueError) as error:  # a sound whose format changes on the way
        raise InvalidMedia(f"{video}: its sound cannot be read: {error}") from None
    if damaged:
        raise InvalidMedia(damaged[0])
